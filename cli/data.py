from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smallobj.cli.convert import convert
from smallobj.cli.label_options import (
    DataArgument,
    ImagesOption,
    KindOption,
    NamesOption,
    OriginOption,
    SplitOption,
)
from smallobj.cli.scored import counted, tell

if TYPE_CHECKING:
    from rich.console import Console

    from smallobj.formats import Checked, Labels, Statistics

data_app = typer.Typer(
    no_args_is_help=True,
    help="Convert labels and runs, look for faults in labels, count what they hold.",
)
data_app.command()(convert)

JsonOption = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Also write what is printed to FILE, as JSON."),
]


@data_app.command()
def check(
    data: DataArgument,
    *,
    images: ImagesOption = None,
    kind: KindOption = None,
    split: SplitOption = None,
    names: NamesOption = None,
    voc_origin: OriginOption = 1,
    pixels: Annotated[
        bool, typer.Option("--pixels", help="Decode every image, not only its header.")
    ] = False,
    json_file: JsonOption = None,
) -> None:
    """List every fault of labels and images: file, item, field and value.

    Ends with status 1 where there are errors; warnings and notices do not count.

    Example: smallobj data check photos --pixels --json faults.json
    """
    import sys

    from rich.console import Console
    from rich.progress import Progress

    from smallobj.boxes import check_writable
    from smallobj.formats import check_labels

    if json_file is not None:
        check_writable(json_file)
    progress = Progress(
        console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
    )
    with progress:
        task = progress.add_task("images", total=None)
        checked = check_labels(
            data,
            images=images,
            kind=kind,
            split=split,
            names=names,
            voc_origin=voc_origin,
            pixels=pixels,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    _print_faults(checked, _console())
    if json_file is not None:
        _write_json(json_file, _checked_content(checked))
    if checked.count("error"):
        raise typer.Exit(1)


@data_app.command()
def stats(
    data: DataArgument,
    *,
    images: ImagesOption = None,
    kind: KindOption = None,
    split: SplitOption = None,
    names: NamesOption = None,
    voc_origin: OriginOption = 1,
    json_file: JsonOption = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw it to FILE: .png, .svg or .pdf.")
    ] = None,
) -> None:
    """Count classes, box sizes and ratios, empty images and image sizes.

    Example: smallobj data stats photos --picture photos.png
    """
    from smallobj.boxes import check_writable
    from smallobj.formats import describe, read_labels

    for file in (json_file, picture):
        if file is not None:
            check_writable(file)
    labels = read_labels(
        data, images=images, kind=kind, split=split, names=names, voc_origin=voc_origin
    )
    tell(labels.repairs.lines())
    statistics = describe(labels.table)
    _print_statistics(statistics, labels, _console())
    if json_file is not None:
        _write_json(json_file, statistics.as_dict())
    if picture is not None:
        from smallobj.report.statistics_plot import plot_statistics

        plot_statistics(labels.table, picture, title=data.resolve().name)
        typer.echo(f"picture: {picture}")


def _console() -> "Console":
    from rich.console import Console

    console = Console()
    if not console.is_terminal:  # a file or a pipe has no width of its own
        console.width = 160
    return console


def _write_json(path: Path, content: object) -> None:
    import msgspec

    from smallobj.boxes import write_bytes

    write_bytes(path, msgspec.json.format(msgspec.json.encode(content)) + b"\n")


def _checked_content(checked: "Checked") -> dict[str, object]:
    return {
        "kind": checked.kind,
        "images": checked.images,
        "boxes": checked.boxes,
        "errors": checked.count("error"),
        "warnings": checked.count("warning"),
        "notices": checked.count("notice"),
        "faults": [fault.as_dict() for fault in checked.faults],
    }


def _print_faults(checked: "Checked", console: "Console") -> None:
    from rich.table import Table
    from rich.text import Text

    if checked.faults:
        table = Table("", "file", "item", "field", "fault", "value", box=None, pad_edge=False)
        for column in table.columns:
            column.overflow = "fold"
        colour = {"error": "red", "warning": "yellow", "notice": "cyan"}
        for fault in checked.faults:
            content = fault.as_dict()
            cells = (content[name] for name in ("file", "item", "field", "reason", "value"))
            severity = Text(fault.severity, style=colour[fault.severity])
            table.add_row(severity, *(Text("" if c is None else str(c)) for c in cells))
        console.print(table)
    found = f"{counted(checked.images, 'image')}, {counted(checked.boxes, 'box')}"
    faults = ", ".join(
        counted(checked.count(severity), severity) for severity in ("error", "warning", "notice")
    )
    console.print(f"{checked.kind or 'labels'}: {found}; {faults}", highlight=False)


def _print_statistics(statistics: "Statistics", labels: "Labels", console: "Console") -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("id", "class", "boxes", "images", "median side", *statistics.by_side, box=None)
    for column in (table.columns[0], *table.columns[2:]):
        column.justify = "right"
    for one in statistics.classes:
        median = "" if one.median_side is None else f"{one.median_side:.1f}"
        counts = map(str, one.by_side.values())
        table.add_row(str(one.id), Text(one.name), str(one.boxes), str(one.images), median, *counts)
    median = f"{statistics.side['p50']:.1f}" if statistics.side else ""
    counts = map(str, statistics.by_side.values())
    table.add_row("", "all", str(statistics.boxes), str(statistics.images), median, *counts)
    console.print(Text("Boxes by class and side (square root of area, px)", style="bold"))
    console.print(table)
    for line in _statistics_lines(statistics, labels):
        console.print(Text(line))


def _statistics_lines(statistics: "Statistics", labels: "Labels") -> list[str]:
    ratios = ", ".join(f"{name}: {count}" for name, count in statistics.by_ratio.items())
    sizes = list(statistics.image_sizes.items())
    shown = ", ".join(f"{size}: {count}" for size, count in sizes[:8])
    more = f", and {len(sizes) - 8} other sizes" if len(sizes) > 8 else ""
    empty = statistics.empty_images
    some = f" ({', '.join(empty[:5])}{', …' if len(empty) > 5 else ''})" if empty else ""
    where = f"images in {labels.root}" if labels.root else "no image folder found"
    lines = [
        f"labels           {labels.kind}, {where}",
        f"images           {statistics.images}, {len(empty)} without boxes{some}",
        f"boxes an image   {_percentiles(statistics.boxes_per_image, 0)}",
        f"side, px         {_percentiles(statistics.side, 1)}",
        f"width : height   {_percentiles(statistics.ratio, 2)}",
        f"                 {ratios}",
        f"image sizes, px  {shown}{more}",
    ]
    return [*lines, f"crowd regions    {statistics.crowds}"] if statistics.crowds else lines


def _percentiles(values: dict[str, float], digits: int) -> str:
    names = {"p0": "least", "p25": "25 %", "p50": "median", "p75": "75 %", "p100": "most"}
    return ", ".join(f"{name} {values[p]:.{digits}f}" for p, name in names.items() if p in values)
