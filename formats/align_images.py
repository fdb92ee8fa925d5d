"""The images that several runs share, and their sizes, without which fractions are no pixels."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Images, InputError
from smallobj.formats.image_files import locate_images, upright_size
from smallobj.formats.image_ids import has_ending, match_ids
from smallobj.formats.runs import Run


def union_images(runs: Sequence[Run]) -> tuple[Images, list[NDArray[np.int64]]]:
    """All images of the runs in order of first appearance, and where each run has them.

    Returns for each run [N] positions, -1 nowhere. An image that one run calls `a` and another
    `a.jpg` is called `a.jpg`. Sizes are not united here. Raises InputError where a run has no image
    in common with those before it.
    """
    ids: list[str] = []
    there: list[NDArray[np.int64]] = []  # of each run, where its images stand in `ids`
    for run in runs:
        own = run.table.images.ids
        position = np.arange(len(own))
        if there:
            position = _positions(run, ids, runs[0])
        ids += [own[i] for i in np.flatnonzero(position >= len(ids))]
        for image_id, i in zip(own, position.tolist(), strict=True):
            if not has_ending(ids[i]) and has_ending(image_id):
                ids[i] = image_id
        there.append(position)
    return Images.of(ids), [_inverse(position, len(ids)) for position in there]


def known_sizes(
    images: Images, runs: Sequence[Run], indices: Sequence[NDArray[np.int64]]
) -> NDArray[np.int32]:
    """Width and height [N, 2] of each image as it says itself or a run does; 0 where none does.

    indices: of each run, where it has each image. Raises InputError where two differ: boxes of one
    of them would lie elsewhere.
    """
    sizes = np.column_stack([images.width, images.height])
    by: list[object] = ["the labels"] * len(images)
    for run, index in zip(runs, indices, strict=True):
        if run.unit == "normalised":
            continue
        own = np.column_stack([run.table.images.width, run.table.images.height])
        said = np.zeros_like(sizes)
        said[index >= 0] = own[index[index >= 0]]
        known = (said > 0).all(axis=1)
        differ = known & (sizes > 0).all(axis=1) & (said != sizes).any(axis=1)
        if differ.any():
            i = int(np.argmax(differ))
            reason = f"image is {_size(said[i])} px here and {_size(sizes[i])} in {by[i]}"
            raise InputError(reason, file=run.path, item=images.ids[i])
        for new in np.flatnonzero(known & ~(sizes > 0).all(axis=1)):
            by[new] = run.path
        sizes[known] = said[known]
    return sizes


def from_labels(
    images: Images, sizes: NDArray[np.int32], sized: Images, runs: Sequence[Run]
) -> tuple[Images, NDArray[np.int32]]:
    """Images and sizes [N, 2] with what labels say of those they have, names with endings too."""
    index = match_ids(images.ids, sized.ids, wanted_file=runs[0].path, given_file="the labels")
    sizes = sizes.copy()
    unknown = (index >= 0) & ~(sizes > 0).all(axis=1)
    sizes[unknown] = np.column_stack([sized.width, sized.height])[index[unknown]]
    return _named(images, [sized.ids[i] if i >= 0 else None for i in index]), sizes


def from_folder(
    images: Images, sizes: NDArray[np.int32], folder: Path, runs: Sequence[Run]
) -> tuple[Images, NDArray[np.int32]]:
    """Images and sizes [N, 2] with those that are unknown read from the headers in a folder."""
    located = locate_images(images.ids, images=folder, labels=runs[0].path, usual=())
    sizes = sizes.copy()
    for i in np.flatnonzero(~(sizes > 0).all(axis=1)):
        path = located.paths[i]
        if path is not None:
            sizes[i] = upright_size(path)
    names = [None if p is None else p.relative_to(folder).as_posix() for p in located.paths]
    return _named(images, names), sizes


def _positions(run: Run, ids: list[str], first: Run) -> NDArray[np.int64]:
    """Where each image of a run stands in `ids`; new ones behind their end, in their order."""
    own = run.table.images.ids
    position = match_ids(own, ids, wanted_file=run.path, given_file=first.path)
    if not (position >= 0).any():
        raise InputError(
            f"has no image in common with {first.path} (runs of another data set?)",
            file=run.path,
            item=own[0],
        )
    new = position < 0
    position[new] = len(ids) + np.arange(int(new.sum()))
    return position


def _inverse(position: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    index = np.full(count, -1, np.int64)
    index[position] = np.arange(len(position))
    return index


def _named(images: Images, names: Sequence[str | None]) -> Images:
    """The images, those without an ending called as in `names` where that leaves no name twice."""
    ids = [
        name if name is not None and has_ending(name) and not has_ending(image_id) else image_id
        for image_id, name in zip(images.ids, names, strict=True)
    ]
    if len(set(ids)) < len(ids):
        return images
    return Images(ids=tuple(ids), width=images.width, height=images.height)


def _size(size: NDArray[np.int32]) -> str:
    return f"{size[0]} x {size[1]}"
