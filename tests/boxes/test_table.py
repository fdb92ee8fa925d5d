import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smallobj.boxes import BoxTable, Classes, Images, InputError, Source, concatenate

CLASSES = Classes.of(["bolt", "nut"], [7, 9])


def table(counts: list[int], *, prefix: str = "", seed: int = 0) -> BoxTable:
    random = np.random.default_rng(seed)
    rows = sum(counts)
    corners = random.uniform(0, 90, (rows, 2))
    return BoxTable(
        images=Images.of(
            [f"{prefix}{i}.jpg" for i in range(len(counts))], [(100, 80)] * len(counts)
        ),
        classes=CLASSES,
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        xyxy=np.concatenate([corners, corners + random.uniform(1, 10, (rows, 2))], axis=1),
        label=random.integers(0, 2, rows),
        score=random.uniform(size=rows),
        source=random.integers(0, 2, rows),
        sources=(Source("a", "identity"), Source("a", "hflip")),
    )


counts_lists = st.lists(st.integers(0, 5), min_size=1, max_size=8)


@given(counts_lists, st.integers(1, 4))
def test_chunks_joined_again_are_the_table(counts: list[int], size: int) -> None:
    whole = table(counts)
    chunks = list(whole.chunks(size))
    assert max(len(chunk.images) for chunk in chunks) <= size
    assert concatenate(chunks) == whole


@given(counts_lists, st.randoms(use_true_random=False))
def test_taken_images_keep_their_rows(counts: list[int], random: object) -> None:
    whole = table(counts)
    order = list(range(len(counts)))
    random.shuffle(order)  # type: ignore[attr-defined]
    taken = whole.take_images(order)
    for position, image in enumerate(order):
        assert taken.images.ids[position] == whole.images.ids[image]
        np.testing.assert_array_equal(
            taken.xyxy[taken.rows(position)], whole.xyxy[whole.rows(image)]
        )
        np.testing.assert_array_equal(
            taken.source[taken.rows(position)], whole.source[whole.rows(image)]
        )


def test_filtered_rows_stay_with_their_image() -> None:
    whole = table([2, 0, 3])
    kept = whole.filter_rows(np.array([False, True, True, False, True]))
    np.testing.assert_array_equal(kept.offsets, [0, 1, 1, 3])
    np.testing.assert_array_equal(kept.xyxy, whole.xyxy[[1, 2, 4]])


def test_build_orders_rows_by_image_and_keeps_their_order_within() -> None:
    built = BoxTable.build(
        images=Images.of(["a.jpg", "b.jpg", "c.jpg"]),
        classes=CLASSES,
        image_index=np.array([2, 0, 2]),
        xyxy=np.arange(12.0).reshape(3, 4),
        label=np.array([0, 1, 1]),
        score=np.array([0.1, 0.2, 0.3]),
    )
    np.testing.assert_array_equal(built.offsets, [0, 1, 1, 3])
    np.testing.assert_array_equal(built.score, [0.2, 0.1, 0.3])
    np.testing.assert_array_equal(built.image_index, [0, 2, 2])


def test_equality_sees_every_column() -> None:
    whole = table([1, 2])
    assert whole == table([1, 2])
    assert whole != table([2, 1])
    assert whole != table([1, 2], seed=1)
    assert whole != table([1, 2], prefix="x")


def test_slices_are_views_of_the_columns() -> None:
    whole = table([3, 2])
    assert np.shares_memory(whole.images_slice(1, 2).xyxy, whole.xyxy)


def test_an_image_in_two_tables_is_named() -> None:
    with pytest.raises(InputError, match=r"1\.jpg"):
        concatenate([table([1, 1]), table([0, 1]).images_slice(1, 2)])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"offsets": [0, 1]}, "offsets do not fit"),
        ({"offsets": [0, 2, 1]}, "do not rise"),
        ({"offsets": [1, 1, 2]}, "do not rise"),
        ({"xyxy": np.zeros((2, 3))}, r"not \(M, 4\)"),
        ({"label": [0, 2]}, "outside the classes"),
        ({"label": [0]}, "label does not have 2 rows"),
        ({"score": [0.5]}, "score does not have 2 rows"),
        ({"source": [0, 0]}, "outside the sources"),
    ],
)
def test_a_wrong_shape_is_refused(change: dict[str, object], reason: str) -> None:
    columns: dict[str, object] = {
        "offsets": [0, 1, 2],
        "xyxy": np.zeros((2, 4)),
        "label": [0, 1],
    }
    with pytest.raises(ValueError, match=reason):
        BoxTable(images=Images.of(["a", "b"]), classes=CLASSES, **(columns | change))  # type: ignore[arg-type]


def test_images_and_classes_are_unique() -> None:
    with pytest.raises(ValueError, match="twice"):
        Images.of(["a.jpg", "a.jpg"])
    with pytest.raises(ValueError, match="twice"):
        Classes.of(["nut", "nut"])
