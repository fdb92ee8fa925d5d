from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smallobj.cli.label_options import (
    MOST_BOXES,
    CommonOption,
    ImagesOption,
    KindOption,
    LabelsOption,
    NamesOption,
    OriginOption,
    RunClassesOption,
    SplitOption,
    StrictOption,
    UnitOption,
)
from smallobj.cli.scored import read_scored

if TYPE_CHECKING:
    from smallobj.formats import Run

_ONE_LINE = 110  # columns that numbers with their intervals beside them need


def compare(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN RUN", help="Two runs or more, in any format that is read."),
    ] = None,
    *,
    labels: LabelsOption,
    images: ImagesOption = None,
    kind: KindOption = None,
    split: SplitOption = None,
    names: NamesOption = None,
    classes: RunClassesOption = None,
    unit: UnitOption = None,
    voc_origin: OriginOption = 1,
    common: CommonOption = False,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="The run, by name or path, that the others are measured by.",
            show_default="the first",
        ),
    ] = None,
    at: Annotated[
        str,
        typer.Option(
            help="Where runs are cut before found and missed objects are counted. alarms: where"
            " they make as many false alarms as the run they are measured by does at its best F1;"
            " f1: each at its own best F1."
        ),
    ] = "alarms",
    metric: Annotated[
        str, typer.Option(help="What is shown by size and class: map50, map75 or map50_95.")
    ] = "map50",
    max_detections: Annotated[
        int,
        typer.Option(
            min=0, max=MOST_BOXES, help="Boxes that count in each image, the best by score; 0: all."
        ),
    ] = 100,
    bootstrap: Annotated[
        int,
        typer.Option(
            min=0, help="Random draws of the images for the 95 % intervals; 0: no intervals."
        ),
    ] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Decides what is drawn at random.")] = 0,
    strict: StrictOption = False,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write every number to FILE, as JSON.")
    ] = None,
    objects: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also write each true box to FILE, as CSV: which run found it, with which score"
            " and IoU.",
        ),
    ] = None,
) -> None:
    """Compare runs: their scores, what one finds and another misses, how different they are.

    docs/compare.md explains the numbers.

    Example: smallobj compare runs/a.json runs/b.json --labels photos/val --objects objects.csv
    """
    import msgspec
    from rich.console import Console

    from smallobj.boxes import InputError, check_writable, write_bytes, write_text
    from smallobj.cli.compare_tables import closing_sentence, comparison_tables
    from smallobj.evaluation import (
        FAIRNESS,
        METRICS,
        compare_runs,
        comparison_record,
        objects_csv,
    )

    for field, value, known in (("metric", metric, METRICS), ("at", at, FAIRNESS)):
        if value not in known:
            raise InputError(f"unknown; known: {', '.join(known)}", field=field, value=value)
    if runs and len(runs) == 1:
        raise InputError("a single run is scored by smallobj evaluate", file=runs[0])
    for file in (json, objects):
        if file is not None:
            check_writable(file)
    if json is not None and objects is not None and json.resolve() == objects.resolve():
        raise InputError("is to be written twice", file=json)
    scored = read_scored(
        runs or [],
        labels,
        images=images,
        kind=kind,
        split=split,
        names=names,
        voc_origin=voc_origin,
        common=common,
        strict=strict,
        classes=classes,
        unit=unit,
    )
    comparison = compare_runs(
        scored.truth,
        scored.tables,
        against=_place(against, scored.runs),
        fairness=at,  # type: ignore[arg-type]
        max_detections=max_detections or None,
        samples=bootstrap,
        seed=seed,
    )
    all_names = [run.name for run in scored.runs]
    shown = [run.name if all_names.count(run.name) == 1 else str(run.path) for run in scored.runs]
    if json is not None:
        settings = {"bootstrap": bootstrap, "seed": seed, "common": common}
        content = {"labels": str(labels), **settings, **comparison_record(comparison, shown)}
        write_bytes(json, msgspec.json.format(msgspec.json.encode(content)) + b"\n")
    if objects is not None:
        write_text(objects, objects_csv(comparison, shown))
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # a file has no edge to break lines at
    narrow = console.width < _ONE_LINE or len(shown) > 3
    for table in comparison_tables(comparison, shown, metric, narrow=narrow):
        console.print(table)
    console.print(f"\n{closing_sentence(comparison, shown)}", markup=False, highlight=False)


def _place(wanted: str | None, runs: "Sequence[Run]") -> int:
    """Where the run of a name or path stands; the first where none is asked for."""
    from smallobj.boxes import InputError

    if wanted is None:
        return 0
    by_path = [k for k, run in enumerate(runs) if run.path == Path(wanted)]
    places = by_path or [k for k, run in enumerate(runs) if run.name == wanted]
    if len(places) == 1:
        return places[0]
    known = ", ".join(run.name if not places else str(run.path) for run in runs)
    reason = "no such run; known" if not places else "several runs have this name; give the path"
    raise InputError(f"{reason}: {known}", field="against", value=wanted)
