from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smallobj.boxes import BoxTable, Classes, Images, InputError
from smallobj.ensemble import ScoreStore, hash_inputs, part_path

SCORES = np.array([[0.1 + 0.2, np.nan], [1.0, 1 / 3]])


def _filled(path: Path) -> bytes:
    store = ScoreStore(path, inputs="x")
    store.put(["a", "b"], SCORES)
    store.close()
    return path.read_bytes()


def test_scores_come_back_to_the_last_digit(tmp_path: Path) -> None:
    _filled(tmp_path / "part")
    store = ScoreStore(tmp_path / "part", inputs="x")
    assert store.found == 2
    for key, row in zip("ab", SCORES, strict=True):
        found = store.get(key)
        assert found is not None
        assert np.array_equal(found, row, equal_nan=True)
    store.remove()
    assert not (tmp_path / "part").exists()


@given(cut=st.integers(0, 200))
def test_wherever_the_file_is_torn_whole_lines_count_and_more_can_follow(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.mktemp("store") / "part"
    content = _filled(path)
    lines = content.splitlines(keepends=True)
    kept = content[: min(cut, len(content))]
    path.write_bytes(kept)
    whole = [i for i in range(len(lines)) if len(b"".join(lines[: i + 1])) <= len(kept)]
    store = ScoreStore(path, inputs="x")
    assert store.found == max(len(whole) - 1, 0)
    store.put(["a", "b", "c"], np.ones((3, 1)))
    store.close()
    again = ScoreStore(path, inputs="x")
    assert again.found == 3
    again.remove()


def test_a_file_of_other_inputs_is_begun_anew(tmp_path: Path) -> None:
    _filled(tmp_path / "part")
    store = ScoreStore(tmp_path / "part", inputs="y")
    assert store.found == 0
    assert store.get("a") is None
    store.close()
    assert (tmp_path / "part").read_bytes().count(b"\n") == 1


def test_a_folder_in_its_place_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        ScoreStore(tmp_path, inputs="x")
    assert part_path(tmp_path / "recipe.toml").name == "recipe.tune.part.jsonl"


def test_inputs_have_another_name_where_anything_of_them_differs() -> None:
    def table(**changes: object) -> BoxTable:
        values: dict = {"xyxy": [[0, 0, 5, 5.0]], "label": [0], "score": [0.5]} | changes
        return BoxTable.build(
            images=Images.of(["a.png"]),
            classes=Classes.of(["cat", "dog"]),
            image_index=np.zeros(1, np.int64),
            **{name: np.array(value) for name, value in values.items()},
        )

    one = table()
    names = [
        hash_inputs(one, [one], "map50"),
        hash_inputs(one, [one], "map75"),
        hash_inputs(one, [one, one], "map50"),
        hash_inputs(one, [table(score=[0.6])], "map50"),
        hash_inputs(one, [table(label=[1])], "map50"),
        hash_inputs(one, [table(xyxy=[[0, 0, 5, 6.0]])], "map50"),
    ]
    assert len(set(names)) == len(names)
    assert hash_inputs(table(), [table()], "map50") == names[0]
