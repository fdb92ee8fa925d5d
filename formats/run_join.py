"""Out-of-fold runs of one architecture as one run: each image by the model that had not seen it."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from smallobj.boxes import BoxTable, InputError, Source, concatenate
from smallobj.formats.align_classes import to_classes, union_classes
from smallobj.formats.image_ids import natural_key, without_ending
from smallobj.formats.run_classes import has_names
from smallobj.formats.run_costs import cost_of, sum_costs
from smallobj.formats.run_info import RunInfo
from smallobj.formats.runs import Run

_FOLD = re.compile(r"[-_. ]*(?:fold|split|part|f|k)?[-_. ]*[0-9]*[-_. ]*$", re.IGNORECASE)
_LISTED = 5  # images named in a message
T = TypeVar("T", float, str)


def join_runs(runs: Sequence[Run], *, model: str | None = None) -> tuple[BoxTable, RunInfo]:
    """One table of the images of all runs, in natural order, and what stands beside it.

    model: its id; by default what the ids of the runs' models, or their names, begin with. Runs
    that name their classes have to name the same. Raises InputError where an image stands in two
    runs, or classes, units or views differ.
    """
    if not runs:
        raise InputError("no runs given")
    _require_alike(runs)
    _require_disjoint(runs)
    classes = union_classes(runs, [])
    sources = tuple(dict.fromkeys(source for run in runs for source in run.table.sources))
    table = concatenate([_with_sources(to_classes(run, classes), runs, sources) for run in runs])
    order = sorted(range(len(table.images)), key=lambda i: natural_key(table.images.ids[i]))
    table = table.take_images(order)
    return table, _joined_info(runs, table, model or _common_model(runs))


def _require_alike(runs: Sequence[Run]) -> None:
    first = runs[0]
    named = [run for run in runs if has_names(run.table.classes)]
    for run in runs[1:]:
        if run.unit != first.unit:
            reason = f"boxes are in {_UNITS[run.unit]}, in {first.path} in {_UNITS[first.unit]}"
            raise InputError(f"{reason}; convert one of them first", file=run.path)
        views, others = (() if r.info is None else r.info.views for r in (run, first))
        if views != others and run.info is not None and first.info is not None:
            reason = f"has other views than {first.path} ({', '.join(others) or 'none'})"
            raise InputError(reason, file=run.path, field="views", value=", ".join(views))
    for run in named[1:]:
        differ = set(run.table.classes.names) ^ set(named[0].table.classes.names)
        if differ and run.numbered and named[0].numbered:
            reason = f"has other classes than {named[0].path}"
            raise InputError(
                reason, file=run.path, field="classes", value=", ".join(sorted(differ))
            )


_UNITS = {"pixel": "pixels", "normalised": "fractions"}


def _require_disjoint(runs: Sequence[Run]) -> None:
    first: dict[str, Run] = {}
    for run in runs:
        twice = [i for i in run.table.images.ids if i in first or without_ending(i) in first]
        if twice:
            other = first.get(twice[0]) or first[without_ending(twice[0])]
            more = f" and {len(twice) - _LISTED} more" if len(twice) > _LISTED else ""
            reason = (
                f"folds have no image in common, but {other.path} has"
                f" {len(twice)} of these {len(run.table.images)} too:"
                f" {', '.join(twice[:_LISTED])}{more}"
            )
            raise InputError(reason, file=run.path)
        first.update(dict.fromkeys(run.table.images.ids, run))


def _with_sources(table: BoxTable, runs: Sequence[Run], sources: tuple[Source, ...]) -> BoxTable:
    """The table with the sources of all runs; without any where one of them has none."""
    if any(run.table.source is None for run in runs):
        return replace(table, source=None, sources=())
    assert table.source is not None
    position = np.array([sources.index(source) for source in table.sources], np.int32)
    source = position[table.source] if len(position) else table.source
    return replace(table, source=source, sources=sources)


def _joined_info(runs: Sequence[Run], table: BoxTable, model: str) -> RunInfo:
    infos = [run.info for run in runs if run.info is not None]
    complete = len(infos) == len(runs)
    caps = [info.cap for info in infos if info.cap is not None]
    seconds = [info.seconds for info in infos if info.seconds is not None]
    sets = list(dict.fromkeys(info.image_set for info in infos if info.image_set))
    weight_mb, latency_ms = sum_costs([cost_of(run.info, run.name) for run in runs])
    return RunInfo(
        model=model,
        classes=table.classes,
        views=infos[0].views if infos else (),
        fold=", ".join(_fold(run) for run in runs),
        image_set=", ".join(sets) or None,
        cap=max(caps) if complete and len(caps) == len(runs) else None,
        seconds=round(sum(seconds), 3) if len(seconds) == len(runs) else None,
        weight_mb=weight_mb,
        latency_ms=latency_ms,
        candidates=any(info.candidates for info in infos),
        nms_iou=_one_of([info.nms_iou for info in infos]),
        merge=_one_of([info.merge for info in infos]),
    )


def _one_of(values: Sequence[T | None]) -> T | None:
    """The value that all have, None where they differ."""
    return values[0] if len(set(values)) == 1 else None


def _fold(run: Run) -> str:
    """What a run says of its fold, else the number its name ends with, else its name."""
    if run.info is not None and run.info.fold is not None:
        return run.info.fold
    number = re.search(r"[0-9]+$", run.name)
    return run.name if number is None else number[0]


def _common_model(runs: Sequence[Run]) -> str:
    models = [run.name if run.info is None else run.info.model for run in runs]
    for names in (models, [run.name for run in runs]):
        if len(set(names)) == 1 and len(runs) > 1:
            return names[0]
        common = _FOLD.sub("", _beginning(names))
        if common:
            return common
    reason = f"names of the models have no beginning in common ({', '.join(models)}); say --model"
    raise InputError(reason, file=runs[0].path)


def _beginning(names: Sequence[str]) -> str:
    """The letters that all names begin with."""
    shortest = min(names, key=len)
    same = (all(name[i] == letter for name in names) for i, letter in enumerate(shortest))
    return shortest[: next((i for i, equal in enumerate(same) if not equal), len(shortest))]
