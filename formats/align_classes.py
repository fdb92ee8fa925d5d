"""The classes that several runs share, united by name."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from smallobj.boxes import BoxTable, Classes, InputError
from smallobj.formats.run_classes import has_names
from smallobj.formats.runs import Run

_TOLD = 5  # classes, of each run
_HINT = "say what its numbers mean (--classes RUN=FILE)"


def union_classes(runs: Sequence[Run], notes: list[str]) -> Classes:
    """The classes of all runs: those that runs name, else their ids.

    Runs whose ids are made up, because their files have names alone, take the ids of the others.
    Tells where a name gets another id because its own is taken. Raises InputError where one run
    has numbers alone and no other says what they mean.
    """
    named = [run for run in runs if has_names(run.table.classes)]
    if not named:
        numbers = sorted({i for run in runs for i in run.table.classes.source_ids})
        return Classes.of([str(i) for i in numbers], numbers)
    numbered = [run for run in named if run.numbered]
    if not numbered:
        _require_names(runs, named[0])
    ids: dict[str, int] = {}
    for run in [*numbered, *(run for run in named if not run.numbered)]:
        classes = run.table.classes
        for name, class_id in zip(classes.names, classes.source_ids, strict=True):
            if name not in ids:
                ids[name] = _free_id(run, name, class_id, ids, notes)
    return Classes.of(tuple(ids), tuple(ids.values()))


def to_classes(run: Run, classes: Classes) -> BoxTable:
    """The run's table with the labels of `classes`, matched by name where the run has names.

    Raises InputError where a box is of a class that is not among them.
    """
    table = run.table
    if table.classes == classes:
        return table
    if has_names(table.classes):
        known: dict[object, int] = {name: i for i, name in enumerate(classes.names)}
        own: Sequence[object] = table.classes.names
    else:
        known = {class_id: i for i, class_id in enumerate(classes.source_ids)}
        own = table.classes.source_ids
    to_shared = np.array([known.get(one, -1) for one in own], np.int32)
    label = to_shared[table.label] if len(own) else table.label
    if (label < 0).any():
        row = int(np.argmax(label < 0))
        names = ", ".join(classes.names[:20]) + (", …" if len(classes) > 20 else "")
        hint = "" if has_names(table.classes) and run.numbered else f"; {_HINT}"
        raise InputError(
            f"class is outside the known ones ({names}){hint}",
            file=run.path,
            item=table.images.ids[int(table.image_index[row])],
            field="class",
            value=own[int(table.label[row])],
        )
    return replace(table, classes=classes, label=label)


def note_numbers(runs: Sequence[Run], classes: Classes, notes: list[str]) -> None:
    """Tell what the numbers of runs without names were taken for: another tool may count from 1."""
    if not has_names(classes):
        return
    named = dict(zip(classes.source_ids, classes.names, strict=True))
    for run in runs:
        used = [run.table.classes.source_ids[label] for label in np.unique(run.table.label)]
        if used and not has_names(run.table.classes):
            told = ", ".join(f"{number} {named[number]}" for number in used[:_TOLD])
            more = ", …" if len(used) > _TOLD else ""
            notes.append(f"{run.path} calls classes by number, taken as: {told}{more}")


def _require_names(runs: Sequence[Run], named: Run) -> None:
    for run in runs:
        if not has_names(run.table.classes):
            reason = f"calls classes by number, {named.path} by name: {_HINT}"
            raise InputError(reason, file=run.path)


def _free_id(run: Run, name: str, class_id: int, ids: dict[str, int], notes: list[str]) -> int:
    if class_id not in ids.values():
        return class_id
    fresh = max(ids.values()) + 1
    if run.numbered:
        notes.append(f"{run.path}: class {name} is written as {fresh}, {class_id} is taken")
    return fresh
