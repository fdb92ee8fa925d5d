from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smallobj.cli.label_options import (
    AnyKind,
    KindOption,
    NamesOption,
    OriginOption,
    SplitOption,
    StrictOption,
    UnitOption,
)
from smallobj.cli.scored import counted, run_repairs, tell

if TYPE_CHECKING:
    from smallobj.boxes import BoxTable


def convert(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA", help="Labels (a folder in a known layout, or a file) or a run."
        ),
    ],
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help="What is written: a folder for yolo and voc, else a file."
        ),
    ],
    *,
    to: Annotated[
        AnyKind,
        typer.Option(help="The format to write; labels are no parquet, runs are no voc."),
    ],
    images: Annotated[
        Path | None,
        typer.Option(
            help="The image folder, where it is not found beside the labels; for a run, where the"
            " sizes are read from that fractions need."
        ),
    ] = None,
    kind: KindOption = None,
    split: SplitOption = None,
    names: NamesOption = None,
    voc_origin: OriginOption = 1,
    copy_images: Annotated[
        bool,
        typer.Option(
            "--copy-images/--link-images",
            help="Whether yolo and voc folders get copies of the images or links to them.",
        ),
    ] = False,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="For a run: labels that say image sizes, and, where they are COCO's, which images"
            " and classes the numbers in COCO results mean."
        ),
    ] = None,
    unit: UnitOption = None,
    strict: StrictOption = False,
) -> None:
    """Write labels, or the predictions of a run, in another format.

    yolo and voc folders get links to the images (--copy-images for a folder that is to travel).
    Challenge labels get their class names beside them in NAME.names, runs in NAME.run.toml.
    --names says what the class numbers of a run mean, where nothing beside it does.

    Example: smallobj data convert instances_train.json train.yolo --to yolo --images photos

    Example: smallobj data convert runs/a.json results.json --to coco --labels instances_val.json

    Example: smallobj data convert runs/predict/labels b.json --to challenge --images photos/val
    """
    from smallobj.boxes import InputError
    from smallobj.formats import is_run

    if out.resolve() == data.resolve():
        raise InputError("would be written over itself", file=out)
    if is_run(data):
        of_labels = {
            "--kind": kind,
            "--split": split,
            "--copy-images": copy_images or None,
        }
        for option, value in of_labels.items():
            if value is not None:
                raise InputError(f"is a run, and {option} is for labels", file=data)
        reading: dict[str, Any] = {"labels": labels, "images": images, "names": names, "unit": unit}
        _convert_run(data, out, to, strict=strict, **reading)
        return
    for option, given in {"--labels": labels, "--unit": unit}.items():
        if given is not None:
            raise InputError(f"is no run, and {option} is for runs", file=data)
    reading = {"images": images, "kind": kind, "split": split, "names": names}
    _convert_labels(
        data, out, to, reading, voc_origin=voc_origin, copy_images=copy_images, strict=strict
    )


def _convert_labels(
    data: Path,
    out: Path,
    to: AnyKind,
    reading: dict[str, Any],
    *,
    voc_origin: int,
    copy_images: bool,
    strict: bool,
) -> None:
    from smallobj.formats import read_labels, write_labels

    labels = read_labels(data, voc_origin=voc_origin, strict=strict, **reading)
    notes = write_labels(
        labels.table,
        out,
        to.value,
        image_paths=labels.found,
        place_images="copy" if copy_images else "link",
        source_image_ids=labels.source_image_ids,
        voc_origin=voc_origin,
    )
    tell([*labels.repairs.lines(), *notes])
    typer.echo(f"{labels.kind} to {to.value}: {_found(labels.table)} read, written to {out}")


def _convert_run(
    path: Path,
    out: Path,
    to: AnyKind,
    *,
    labels: Path | None,
    images: Path | None,
    names: Path | None,
    unit: str | None,
    strict: bool,
) -> None:
    from dataclasses import replace

    from smallobj.boxes import InputError
    from smallobj.formats import (
        RUN_KINDS,
        RunInfo,
        align_runs,
        read_labels,
        read_run_classes,
        read_runs,
        write_run,
    )

    if to.value not in RUN_KINDS:
        reason = f"is a run, which can be written as {', '.join(RUN_KINDS)}"
        raise InputError(reason, file=path, field="to", value=to.value)
    truth = None if labels is None else read_labels(labels)
    said = {} if names is None else read_run_classes([f"{path}={names}"], [path])
    runs = read_runs([path], labels=truth, classes=said, unit=unit, strict=strict)
    aligned = align_runs(
        runs,
        classes=None if truth is None else truth.table.classes,
        sized=None if truth is None else truth.table.images,
        image_folder=images,
    )
    table, info = aligned.tables[0], runs[0].info
    if info is None:
        info = RunInfo(model=runs[0].name, classes=table.classes)
    notes = write_run(out, table, replace(info, classes=table.classes), kind=to.value, labels=truth)
    tell([*run_repairs(runs), *aligned.notes, *notes])
    typer.echo(f"run to {to.value}: {_found(table)} read, written to {out}")


def _found(table: "BoxTable") -> str:
    return f"{counted(len(table.images), 'image')}, {counted(len(table), 'box')}"
