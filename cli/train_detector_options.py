"""Options of `train`: the detector, and its first weights."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

_detector = partial(typer.Option, rich_help_panel="Detector")
_first_weights = partial(typer.Option, rich_help_panel="First weights")

PresetOption = Annotated[
    str | None,
    _detector(
        metavar="NAME",
        help="Named settings where you give none: baseline-300, an SSD on ResNet-50 that sees"
        " whole images squashed.",
    ),
]
ArchOption = Annotated[
    str | None,
    _detector(help="Detector to train; smallobj detectors lists them."),
]
SizeOption = Annotated[
    str | None,
    _detector(
        show_default="small, of yolo n",
        help="Size of the detector; smallobj detectors lists them all.",
    ),
]
BackboneOption = Annotated[
    str | None,
    _detector(
        show_default="the size's own",
        help="Any timm backbone with feature maps, by name.",
    ),
]
LevelsOption = Annotated[
    str | None,
    _detector(
        metavar="A-B",
        show_default="the size's own",
        help="Levels that the detector looks at, of stride 2^A to 2^B px: 2-5, 3-6, ...",
    ),
]
NormOption = Annotated[
    str | None,
    _detector(
        show_default="batch",
        help="batch, or group: no batch norm anywhere, for small batches.",
    ),
]
SettingsOption = Annotated[
    list[str] | None,
    _detector(
        "--set",
        metavar="NAME=VALUE",
        help="Another setting of the detector, say neck=pafpn or width=96; may be repeated.",
    ),
]
InitOption = Annotated[
    Path | None,
    _first_weights(
        metavar="RUN",
        show_default="random weights",
        help="Begin from a model of your own: its detector, and every weight that fits.",
    ),
]
PretrainedOption = Annotated[
    bool | None,
    _first_weights(
        "--pretrained",
        show_default="never",
        help="Begin from the weights timm offers for the backbone, and download them. The"
        " manifest tells, as contests may forbid it.",
    ),
]
FreezeOption = Annotated[
    int | None,
    _first_weights(
        metavar="N",
        show_default="0",
        help="The first N stages of the backbone keep their weights.",
    ),
]
