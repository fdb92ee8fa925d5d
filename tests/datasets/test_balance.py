"""How often each class is aimed at."""

import numpy as np
import pytest

from smallobj.boxes import BoxTable, Classes, Images
from smallobj.datasets.order import epoch_order

CLASSES = 4


def skewed(images: int = 200, seed: int = 0) -> BoxTable:
    """Boxes of four classes, each a fifth as common as the one before, 12 an image."""
    rng = np.random.default_rng(seed)
    chance = 5.0 ** -np.arange(CLASSES)
    corner = rng.uniform(0, 90, (12 * images, 2))
    return BoxTable.build(
        images=Images.of([f"{i}.png" for i in range(images)], [(100, 100)] * images),
        classes=Classes.of([f"c{i}" for i in range(CLASSES)]),
        image_index=np.repeat(np.arange(images), 12),
        xyxy=np.concatenate([corner, corner + 10], axis=1),
        label=rng.choice(CLASSES, 12 * images, p=chance / chance.sum()),
    )


def aimed(table: BoxTable, balance: float, epoch: int = 0, cap: int = 8) -> np.ndarray:
    order = epoch_order(table, 0.15, cap, np.random.default_rng([0, epoch]), balance=balance)
    return order[order[:, 1] >= 0]


def test_without_balance_every_box_is_aimed_at_once() -> None:
    table = skewed()
    rows = aimed(table, 0, cap=1000)[:, 1]
    assert np.array_equal(np.sort(rows), np.arange(len(table)))


def test_with_full_balance_classes_are_aimed_at_equally_often() -> None:
    table = skewed()
    counts = np.bincount(table.label[aimed(table, 1)[:, 1]], minlength=CLASSES)
    assert counts.sum() == 8 * 200
    assert np.ptp(counts) <= 2


def test_the_share_of_a_class_follows_the_exponent() -> None:
    table = skewed()
    labelled = np.bincount(table.label).astype(float)
    counts = np.bincount(table.label[aimed(table, 0.5, cap=1000)[:, 1]], minlength=CLASSES)
    assert counts / counts.sum() == pytest.approx(
        labelled**0.5 / (labelled**0.5).sum(), abs=2 / counts.sum()
    )


@pytest.mark.parametrize("balance", [0, 0.3, 1])
def test_the_number_of_crops_stays_and_an_image_offers_so_many_boxes(balance: float) -> None:
    table = skewed()
    for epoch in range(3):
        rows = aimed(table, balance, epoch, cap=3)
        assert len(rows) == 3 * 200
        assert (table.image_index[rows[:, 1]] == rows[:, 0]).all()
        different = np.unique(rows[:, 1])
        assert np.bincount(table.image_index[different]).max() <= 3


def test_every_box_of_a_class_comes_equally_often() -> None:
    """Low variance: no box of a class is drawn twice more often than another in an epoch."""
    table = skewed()
    rows = aimed(table, 1, cap=1000)[:, 1]
    times = np.bincount(rows, minlength=len(table))
    for label in range(CLASSES):
        assert np.ptp(times[table.label == label]) <= 1
    assert times[table.label == CLASSES - 1].min() >= 2


def test_in_a_crowded_image_the_rare_class_is_chosen_first() -> None:
    table = skewed()
    rare = table.label == CLASSES - 1
    found = [np.unique(aimed(table, b, cap=2)[:, 1]) for b in (0, 1)]
    plain, balanced = (rare[rows].sum() for rows in found)
    assert balanced > 2 * plain


def test_nothing_to_balance_is_no_crop() -> None:
    table = skewed()
    empty = BoxTable.empty(table.images, table.classes, scored=False)
    assert len(aimed(empty, 1)) == 0
