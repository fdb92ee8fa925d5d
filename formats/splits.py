"""Dealing images into folds."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import BoxTable, InputError


def split_folds(
    table: BoxTable, folds: int, *, seed: int, groups: Sequence[str] | None = None
) -> NDArray[np.int64]:
    """The fold of each image, 0 to folds - 1, [N]; alike in boxes and images of every class.

    groups: one name per image; images of one group (frames of one sequence) stay together. The
    rarest class is dealt first, always to the fold that lacks most of it (iterative
    stratification, Sechidis, Tsoumakas and Vlahavas 2011), here over box counts and presence.

    Raises InputError where there are fewer images or groups than folds.
    """
    if groups is not None and len(groups) != len(table.images):
        raise ValueError(f"{len(groups)} groups for {len(table.images)} images")
    names = list(table.images.ids) if groups is None else list(groups)
    member_of = {name: i for i, name in enumerate(dict.fromkeys(names))}
    unit = np.array([member_of[name] for name in names], np.int64)
    if folds < 2 or len(member_of) < folds:
        what = "images" if groups is None else "groups"
        reason = f"{len(member_of)} {what} are too few" if folds >= 2 else "has to be at least 2"
        raise InputError(reason, field="folds", value=folds)
    traits = _traits(table, unit, len(member_of))
    fold_of_unit = _deal(traits, np.full(folds, 1 / folds), np.random.default_rng(seed))
    return fold_of_unit[unit]


def draw_share(table: BoxTable, share: float, *, seed: int) -> NDArray[np.bool_]:
    """Which images make up a share (0 < share <= 1) of a table, [N]: so many, at least one.

    Dealt as `split_folds` deals, so that they are alike in boxes and images of every class; the
    boxes marked to be ignored are not counted. Where any image has a box, one that is drawn has.
    """
    if table.ignore is not None:
        table = table.filter_rows(~table.ignore)
    images = len(table.images)
    count = max(1, round(share * images))
    if count >= images:
        return np.ones(images, np.bool_)
    rng = np.random.default_rng(seed)
    most = np.array([count, images - count])
    unit = np.arange(images)
    drawn = _deal(_traits(table, unit, images), most / images, rng, most=most) == 0
    has_box = np.diff(table.offsets) > 0
    if has_box.any() and not has_box[drawn].any():
        drawn[rng.choice(np.flatnonzero(drawn))] = False
        drawn[rng.choice(np.flatnonzero(has_box))] = True
    return drawn


def _traits(table: BoxTable, unit: NDArray[np.int64], units: int) -> NDArray[np.float64]:
    """What is dealt evenly, [units, 2 * classes + 2]: images and boxes of every class, empty
    images, images; each column sums to 1 or 0.
    """
    classes = len(table.classes)
    boxes = np.zeros((len(table.images), classes))
    np.add.at(boxes, (table.image_index, table.label), 1)
    empty = ~boxes.any(axis=1)
    image_traits = np.column_stack([boxes > 0, boxes, empty, np.ones(len(boxes))])
    traits = np.zeros((units, image_traits.shape[1]))
    np.add.at(traits, unit, image_traits)
    total = traits.sum(axis=0)
    return np.divide(traits, total, out=np.zeros_like(traits), where=total > 0)


def _deal(
    traits: NDArray[np.float64],
    shares: NDArray[np.float64],
    rng: np.random.Generator,
    *,
    most: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Units with the rarest and heaviest traits first, each to the fold that needs it most.

    shares [folds]: of all traits that each fold is to hold; its need is measured by that. most
    [folds]: units it may hold.
    """
    fold = np.empty(len(traits), np.int64)
    wanted = np.full((len(shares), traits.shape[1]), shares.max())
    weight = shares.max() / shares  # of a unit in each fold: more in one that is to hold less
    left = np.full(len(shares), len(traits)) if most is None else most.copy()
    order = rng.permutation(len(traits))
    order = order[np.argsort(-traits[order].sum(axis=1), kind="stable")]
    for unit in order:
        need = np.where(left > 0, wanted @ traits[unit], -np.inf)
        best = np.flatnonzero(need >= need.max() - 1e-12)
        room = wanted[best, -1]
        best = best[room >= room.max() - 1e-12]
        chosen = int(rng.choice(best))
        fold[unit] = chosen
        left[chosen] -= 1
        wanted[chosen] -= traits[unit] * weight[chosen]
    return fold
