import numpy as np
import pytest

from smallobj.boxes import BoxTable, Classes, Images, InputError
from smallobj.formats import draw_share, split_folds


def random_table(images: int, seed: int) -> BoxTable:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 12, images)
    image_index = np.repeat(np.arange(images), counts)
    label = rng.choice(4, len(image_index), p=[0.8, 0.15, 0.04, 0.01]).astype(np.int32)
    return BoxTable.build(
        images=Images.of([f"{i}.jpg" for i in range(images)]),
        classes=Classes.of(["a", "b", "c", "d"]),
        image_index=image_index,
        label=label,
        xyxy=np.tile([0.0, 0.0, 9.0, 9.0], (len(label), 1)),
    )


@pytest.mark.parametrize("seed", range(5))
def test_every_fold_has_its_share_of_images_boxes_and_classes(seed: int) -> None:
    table = random_table(200, seed)
    fold = split_folds(table, 5, seed=seed)
    assert np.abs(np.bincount(fold, minlength=5) - 40).max() <= 4
    for label in range(4):
        of_class = table.label == label
        boxes = np.bincount(fold[table.image_index[of_class]], minlength=5)
        assert np.abs(boxes - of_class.sum() / 5).max() <= max(2, 0.1 * of_class.sum() / 5)
    empty = np.diff(table.offsets) == 0
    assert np.ptp(np.bincount(fold[empty], minlength=5)) <= 3


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [0.1, 0.5, 0.77])
def test_a_share_has_its_share_of_images_boxes_and_classes(share: float, seed: int) -> None:
    table = random_table(200, seed)
    drawn = draw_share(table, share, seed=seed)
    assert drawn.sum() == round(200 * share)
    for label in range(4):
        of_class = table.label == label
        wanted = share * of_class.sum()
        assert abs(drawn[table.image_index[of_class]].sum() - wanted) <= max(2, 0.1 * wanted)
    empty = np.diff(table.offsets) == 0
    assert abs(drawn[empty].sum() - share * empty.sum()) <= 2
    assert np.array_equal(drawn, draw_share(table, share, seed=seed))
    assert not np.array_equal(drawn, draw_share(table, share, seed=seed + 1))


def test_a_whole_share_is_all_and_a_tiny_one_has_a_box() -> None:
    table = random_table(40, 0)
    assert draw_share(table, 1, seed=0).all()
    one = table.filter_rows(table.image_index == 17)
    for seed in range(5):
        assert np.flatnonzero(draw_share(one, 0.001, seed=seed)).tolist() == [17]
    assert draw_share(table.filter_rows(table.label < 0), 0.1, seed=0).sum() == 4


def test_groups_stay_together_and_the_seed_decides() -> None:
    table = random_table(60, 0)
    groups = [f"sequence {i // 7}" for i in range(60)]
    fold = split_folds(table, 3, seed=1, groups=groups)
    assert all(len(set(fold[np.array(groups) == g])) == 1 for g in set(groups))
    assert set(fold) == {0, 1, 2}
    assert np.array_equal(fold, split_folds(table, 3, seed=1, groups=groups))
    assert not np.array_equal(split_folds(table, 3, seed=1), split_folds(table, 3, seed=2))


def test_as_many_folds_as_images_leave_one_out() -> None:
    fold = split_folds(random_table(6, 0), 6, seed=0)
    assert sorted(fold) == list(range(6))


def test_folds_that_cannot_be_filled_are_refused() -> None:
    table = random_table(4, 0)
    with pytest.raises(InputError, match="field folds: 4 images are too few, got 5"):
        split_folds(table, 5, seed=0)
    with pytest.raises(InputError, match="has to be at least 2, got 1"):
        split_folds(table, 1, seed=0)
    with pytest.raises(InputError, match="1 groups are too few"):
        split_folds(table, 2, seed=0, groups=["a"] * 4)
    with pytest.raises(ValueError, match="1 groups for 4 images"):
        split_folds(table, 2, seed=0, groups=["a"])
