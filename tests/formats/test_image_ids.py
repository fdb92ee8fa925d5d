import pytest
from hypothesis import given
from hypothesis import strategies as st

from smallobj.boxes import InputError
from smallobj.formats import match_ids, natural_key, normal_id


def test_numbers_in_names_count_as_numbers() -> None:
    names = ["10.jpg", "2.jpg", "a10b2", "a2b10", "b/1", "02.jpg", "1" * 5000, "²"]
    ordered = sorted(names, key=natural_key)
    assert ordered[:3] == ["02.jpg", "2.jpg", "10.jpg"]
    assert ordered.index("a2b10") < ordered.index("a10b2")


@given(st.lists(st.text(), unique=True))
def test_every_set_of_names_has_one_order(names: list[str]) -> None:
    backwards = names[::-1]
    assert sorted(names, key=natural_key) == sorted(backwards, key=natural_key)


def test_ids_are_compared_in_one_form() -> None:
    assert normal_id("./a\\e\u0301.jpg") == "a/\u00e9.jpg"


def test_equal_ids_match_before_names() -> None:
    index = match_ids(["a/1.jpg", "b/1.jpg", "c.jpg"], ["b/1.jpg", "a/1.jpg"])
    assert index.tolist() == [1, 0, -1]


def test_a_path_matches_its_own_ending() -> None:
    given_ids = ["images/val/1.jpg", "2.jpg", "x/3.jpg"]
    assert match_ids(["val/1.jpg", "2.jpg", "y/3.jpg"], given_ids).tolist() == [0, 1, -1]


def test_base_names_then_stems_match_where_no_path_does() -> None:
    assert match_ids(["x/1.jpg", "x/2.jpg"], ["y/2.jpg", "y/1.jpg"]).tolist() == [1, 0]
    assert match_ids(["1.jpg", "2.jpg"], ["2.png", "3.png"]).tolist() == [-1, 0]
    assert match_ids(["1.jpg"], ["2.png"]).tolist() == [-1]
    assert match_ids([], ["2.png"]).tolist() == []


@pytest.mark.parametrize(
    ("wanted", "given_ids"),
    [
        (["x/1.jpg", "y/1.jpg"], ["1.jpg"]),
        (["1.jpg"], ["x/1.jpg", "y/1.jpg"]),
        (["1.jpg", "2.jpg"], ["2.jpg", "x/1.jpg", "y/1.jpg"]),
        (["1.jpg"], ["1.png", "1.bmp"]),
    ],
)
def test_names_that_stand_twice_are_listed(wanted: list[str], given_ids: list[str]) -> None:
    with pytest.raises(InputError, match="several folders") as error:
        match_ids(wanted, given_ids, wanted_file="labels.json", given_file="photos")
    assert "photos" in str(error.value)
    assert any(name in str(error.value) for name in ("x/1.jpg, y/1.jpg", "1.png, 1.bmp"))


@given(st.permutations([f"{folder}/{i}.png" for folder in "ab" for i in range(3)]))
def test_any_order_of_the_same_ids_matches(shuffled: list[str]) -> None:
    wanted = sorted(shuffled)
    index = match_ids(wanted, shuffled)
    assert [shuffled[i] for i in index] == wanted
