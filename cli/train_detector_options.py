"""Options of `train`: the detector, and its first weights."""

from pathlib import Path
from typing import Annotated

import typer

_DETECTOR = "Detector"
_FIRST_WEIGHTS = "First weights"

PresetOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        rich_help_panel=_DETECTOR,
        help="Named settings where you give none: baseline-300, an SSD on ResNet-50 that sees"
        " whole images squashed.",
    ),
]
ArchOption = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=_DETECTOR, help="Detector to train; smallobj detectors lists them."
    ),
]
SizeOption = Annotated[
    str | None,
    typer.Option(
        show_default="small, of yolo n",
        rich_help_panel=_DETECTOR,
        help="Size of the detector; smallobj detectors lists them all.",
    ),
]
BackboneOption = Annotated[
    str | None,
    typer.Option(
        show_default="the size's own",
        rich_help_panel=_DETECTOR,
        help="Any timm backbone with feature maps, by name.",
    ),
]
LevelsOption = Annotated[
    str | None,
    typer.Option(
        metavar="A-B",
        show_default="the size's own",
        rich_help_panel=_DETECTOR,
        help="Levels that the detector looks at, of stride 2^A to 2^B px: 2-5, 3-6, ...",
    ),
]
NormOption = Annotated[
    str | None,
    typer.Option(
        show_default="batch",
        rich_help_panel=_DETECTOR,
        help="batch, or group: no batch norm anywhere, for small batches.",
    ),
]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        rich_help_panel=_DETECTOR,
        help="Another setting of the detector, say neck=pafpn or width=96; may be repeated.",
    ),
]
InitOption = Annotated[
    Path | None,
    typer.Option(
        metavar="RUN",
        show_default="random weights",
        rich_help_panel=_FIRST_WEIGHTS,
        help="Begin from a model of your own: its detector, and every weight that fits.",
    ),
]
PretrainedOption = Annotated[
    bool | None,
    typer.Option(
        "--pretrained",
        show_default="never",
        rich_help_panel=_FIRST_WEIGHTS,
        help="Begin from the weights timm offers for the backbone, and download them. The"
        " manifest tells, as contests may forbid it.",
    ),
]
FreezeOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        show_default="0",
        rich_help_panel=_FIRST_WEIGHTS,
        help="The first N stages of the backbone keep their weights.",
    ),
]
