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
    fold_of_unit = _deal(_traits(table, unit, len(member_of)), folds, np.random.default_rng(seed))
    return fold_of_unit[unit]


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


def _deal(traits: NDArray[np.float64], folds: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Units with the rarest and heaviest traits first, each to the fold that needs it most."""
    fold = np.empty(len(traits), np.int64)
    wanted = np.full((folds, traits.shape[1]), 1 / folds)
    order = rng.permutation(len(traits))
    order = order[np.argsort(-traits[order].sum(axis=1), kind="stable")]
    for unit in order:
        need = wanted @ traits[unit]
        best = np.flatnonzero(need >= need.max() - 1e-12)
        room = wanted[best, -1]
        best = best[room >= room.max() - 1e-12]
        chosen = int(rng.choice(best))
        fold[unit] = chosen
        wanted[chosen] -= traits[unit]
    return fold
