"""Options of `train`: what is learnt from, and the samples that are cut from it."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

_data = partial(typer.Option, rich_help_panel="Data")
_samples = partial(typer.Option, rich_help_panel="Samples")

DataOption = Annotated[
    Path | None,
    _data(
        help="Labels of the images to learn from: a folder or a file of labels.",
    ),
]
ImagesOption = Annotated[
    Path | None,
    _data(show_default="beside the labels", help="Folder of the images."),
]
KindOption = Annotated[
    str | None,
    _data(
        show_default="by content",
        help="Format of the labels: challenge, coco, yolo or voc.",
    ),
]
NamesOption = Annotated[
    Path | None,
    _data(
        help="File of class names, one a line, where the labels give none.",
    ),
]
VocOriginOption = Annotated[
    int | None,
    _data(
        show_default="1",
        help="What Pascal VOC files call the first pixel: 1 or 0.",
    ),
]
SplitOption = Annotated[
    str | None,
    _data(
        show_default="train, if there is one",
        help="Part of the data set to train on, or a .txt with an image a line.",
    ),
]
ValOption = Annotated[
    Path | None,
    _data(help="A data set to validate on, read like --data."),
]
ValSplitOption = Annotated[
    str | None,
    _data(
        show_default="val, if there is one",
        help="Part to validate on, or a .txt with an image a line.",
    ),
]
FoldsOption = Annotated[
    int | None,
    _data(
        show_default="5 without a part to validate on",
        help="Deal the images into so many folds, alike in classes and boxes.",
    ),
]
FoldOption = Annotated[
    str | None,
    _data(
        metavar="N|none",
        show_default="0",
        help="Fold to validate on, from 0; the others train. none: train on all images, with"
        " nothing held out.",
    ),
]
SubsetOption = Annotated[
    float | None,
    _data(
        metavar="SHARE",
        show_default="1",
        help="Share of the training images that is trained on, above 0 to 1, drawn by the seed,"
        " alike in classes and boxes.",
    ),
]
MaxBadOption = Annotated[
    int | None,
    _data(
        metavar="N",
        show_default="0",
        help="Leave out up to so many images that cannot be read; more are an error, before"
        " the first step.",
    ),
]
InputOption = Annotated[
    str | None,
    _samples(
        show_default="crops",
        metavar="crops|squash",
        help="What the detector sees: crops at the scale of the photograph, or whole images"
        " squashed to --crop pixels a side, whatever their shape.",
    ),
]
CropOption = Annotated[
    int | None,
    _samples(
        show_default="256",
        help="Side in pixels of the crops or squashed images that the detector learns from.",
    ),
]
CropsPerImageOption = Annotated[
    int | None,
    _samples(
        show_default="8",
        help="Most crops taken from an image in one pass over the data.",
    ),
]
BackgroundOption = Annotated[
    float | None,
    _samples(
        show_default="0.15",
        help="Share of the crops at places without an object.",
    ),
]
BalanceOption = Annotated[
    float | None,
    _samples(
        show_default="1",
        help="How far rare classes are aimed at oftener: 0, as labelled, to 1, all alike.",
    ),
]
ScaleJitterOption = Annotated[
    float | None,
    _samples(
        show_default="0.25",
        help="Half of the crops are scaled by up to 1 + this, or down by as much.",
    ),
]
MosaicOption = Annotated[
    float | None,
    _samples(
        show_default="0",
        help="Share of the crops that are put together from four images.",
    ),
]
PasteOption = Annotated[
    float | None,
    _samples(
        show_default="0",
        help="Share of the crops into which 1 to 3 objects of other images are pasted.",
    ),
]
ColourOption = Annotated[
    float | None,
    _samples(
        show_default="0.2",
        help="Strength of the change of colours; 0: none.",
    ),
]
SymmetryOption = Annotated[
    str | None,
    _samples(
        show_default="all",
        help="Flips and turns of the crops: all, mirror (left and right alone) or none.",
    ),
]
StagesOption = Annotated[
    str | None,
    _samples(
        metavar="SCALE:SHARE,...",
        show_default="native scale throughout",
        help="Learn at lower scales first: 0.5:0.4 shows the first 0.4 of the steps the same"
        " places at half the scale, in crops of half the side, which cost a quarter.",
    ),
]
PlainEndOption = Annotated[
    float | None,
    _samples(
        show_default="0.1",
        help="Share of the steps, the last ones, without mosaic, pasted objects, scale jitter"
        " and change of colours; 0: never.",
    ),
]
