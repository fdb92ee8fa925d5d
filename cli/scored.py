"""Runs and the labels they are scored against, read alike by every command that scores."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import typer

if TYPE_CHECKING:
    from smallobj.boxes import BoxTable
    from smallobj.formats import Run


class Scored(NamedTuple):
    """True boxes, and the predictions of every run on the same images and classes."""

    truth: "BoxTable"
    runs: "list[Run]"
    tables: "list[BoxTable]"  # one a run


def read_scored(
    paths: Sequence[Path],
    labels: Path,
    *,
    images: Path | None,
    kind: str | None,
    split: str | None,
    names: Path | None,
    voc_origin: int,
    common: bool,
    strict: bool = False,
    classes: Sequence[str] | None = None,
    unit: str | None = None,
) -> Scored:
    """Read labels and runs, and tell on stderr what was repaired, is missing or left out.

    common: only the images that every run holds. classes: RUN=FILE, what the class numbers of a run
    mean. unit: of the boxes of CSV files, where their content leaves it open. Raises InputError
    where a value is at fault, a run is of another data set, or the labels hold no box to find.
    """
    from smallobj.boxes import InputError
    from smallobj.formats import align_runs, read_labels, read_run_classes, read_runs

    said = read_run_classes(classes or (), paths)
    truth = read_labels(
        labels,
        images=images,
        kind=kind,
        split=split,
        names=names,
        voc_origin=voc_origin,
        strict=strict,
    )
    runs = read_runs(paths, labels=truth, classes=said, unit=unit, strict=strict)
    aligned = align_runs(
        runs,
        images=truth.table.images,
        classes=truth.table.classes,
        common=common,
    )
    table = truth.table.take_images(aligned.positions)
    if not len(table) or (table.ignore is not None and table.ignore.all()):
        where = " in the images that every run holds" if common else ""
        raise InputError(f"holds no boxes to find{where}", file=labels)
    repaired = [f"{labels}: {line}" for line in truth.repairs.lines()]
    tell([*repaired, *run_repairs(runs), *aligned.notes])
    return Scored(table, runs, aligned.tables)


def run_repairs(runs: "Sequence[Run]") -> list[str]:
    """What was repaired while reading runs, a line a thing."""
    return [f"{run.path}: {line}" for run in runs for line in run.repairs.lines()]


def counted(count: int, one: str) -> str:
    """A number of things in words: `1 box`, `2 boxes`."""
    if count == 1:
        return f"1 {one}"
    return f"{count} {one}{'es' if one.endswith('x') else 's'}"


def tell(lines: Sequence[str]) -> None:
    """Print notes on stderr, where they do not mix with results."""
    for line in lines:
        typer.echo(f"note: {line}", err=True)
