"""Options that say where labels are and how to read them, the same in every command."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

MOST_BOXES = 1_000_000  # an image; a larger cap is a slip of the finger


class Kind(StrEnum):
    """The kinds of labels, spelled out here so that --help need not import numpy."""

    challenge = "challenge"
    coco = "coco"
    yolo = "yolo"
    voc = "voc"
    openimages = "openimages"


class RunKind(StrEnum):
    """The kinds of files that runs are written as."""

    challenge = "challenge"
    coco = "coco"
    openimages = "openimages"
    parquet = "parquet"
    yolo = "yolo"


class AnyKind(StrEnum):
    """The kinds of files that labels or runs are written as."""

    challenge = "challenge"
    coco = "coco"
    yolo = "yolo"
    voc = "voc"
    openimages = "openimages"
    parquet = "parquet"


class Unit(StrEnum):
    """What the boxes of a run may be measured in."""

    pixel = "pixel"
    normalised = "normalised"


DataArgument = Annotated[
    Path, typer.Argument(metavar="DATA", help="A folder of labels in a known layout, or a file.")
]
LabelsOption = Annotated[
    Path,
    typer.Option(
        help="True boxes: a folder or file of labels (challenge, COCO, YOLO, Pascal VOC, Open"
        " Images)."
    ),
]
ImagesOption = Annotated[
    Path | None, typer.Option(help="The image folder, where it is not found beside the labels.")
]
KindOption = Annotated[
    Kind | None,
    typer.Option(help="Format of the labels.", show_default="told by their content"),
]
SplitOption = Annotated[
    str | None,
    typer.Option(
        help="Only this part of the data: one it names itself (train, val, ...), or the images"
        " that a .txt file lists, one a line.",
        show_default="all",
    ),
]
NamesOption = Annotated[
    Path | None,
    typer.Option(
        help="File of class names, one a line from class 0, or a data.yaml.",
        show_default="found beside the labels",
    ),
]
OriginOption = Annotated[
    int, typer.Option(min=0, max=1, help="Coordinate of the first pixel in Pascal VOC files.")
]
StrictOption = Annotated[
    bool,
    typer.Option(
        "--strict", help="Stop at boxes of faulty geometry instead of repairing or dropping them."
    ),
]
CommonOption = Annotated[
    bool,
    typer.Option(
        "--common",
        help="Score only the images that every run holds. Otherwise all images of the labels"
        " count, and a run that lacks one has found nothing there.",
    ),
]
RunClassesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--classes",
        metavar="RUN=FILE",
        help="What the class numbers of a run mean, where it does not say so itself: RUN is its"
        " name or path, FILE a list of names, a data.yaml, COCO labels or another run's .run.toml."
        " A FILE alone is for all runs not named. Can be given several times.",
        show_default="the TOML beside each run",
    ),
]
UnitOption = Annotated[
    Unit | None,
    typer.Option(
        help="What the boxes of runs in CSV files are measured in: pixel or normalised (fractions"
        " of the image).",
        show_default="told by the boxes",
    ),
]
RunImagesOption = Annotated[
    Path | None,
    typer.Option(
        "--images",
        help="The image folder, for runs whose boxes are fractions of the image: sizes are read"
        " from the headers.",
    ),
]
