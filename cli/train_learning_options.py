"""Options of `train`: how long, how, and on what machine it learns."""

from pathlib import Path
from typing import Annotated

import typer

_LENGTH = "Length"
_LEARNING = "Learning"
_MACHINE = "Machine"

StepsOption = Annotated[
    int | None,
    typer.Option(
        show_default="4000", rich_help_panel=_LENGTH, help="Length of the training in steps."
    ),
]
EpochsOption = Annotated[
    float | None,
    typer.Option(
        rich_help_panel=_LENGTH,
        help="Length of the training in passes over the data, instead of steps.",
    ),
]
TimeLimitOption = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        rich_help_panel=_LENGTH,
        help="Length of the training in time, instead of steps: 90s, 30m, 2h. The first steps"
        " tell how many fit.",
    ),
]
ValidateEveryOption = Annotated[
    int | None,
    typer.Option(
        show_default="about a seventh of the time",
        rich_help_panel=_LENGTH,
        help="Steps between two validations.",
    ),
]
MetricOption = Annotated[
    str | None,
    typer.Option(
        show_default="map50",
        rich_help_panel=_LENGTH,
        help="What the best weights are best by: map50, map75 or map50_95.",
    ),
]
PatienceOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        show_default="never",
        rich_help_panel=_LENGTH,
        help="End the training after N validations in a row without a better --metric.",
    ),
]
KeepLastOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        show_default="0",
        rich_help_panel=_LENGTH,
        help="Keep the weights of the last N validations in OUT/checkpoints, for smallobj"
        " weights average.",
    ),
]
BatchOption = Annotated[
    int | None,
    typer.Option(show_default="16", rich_help_panel=_LEARNING, help="Crops in each step."),
]
OptimizerOption = Annotated[
    str | None,
    typer.Option(
        show_default="adamw", rich_help_panel=_LEARNING, help="Optimizer: adamw, adam or sgd."
    ),
]
LrOption = Annotated[
    float | None,
    typer.Option(
        show_default="adamw 0.004, adam 0.001, sgd 0.02",
        rich_help_panel=_LEARNING,
        help="Highest learning rate.",
    ),
]
WeightDecayOption = Annotated[
    float | None,
    typer.Option(
        show_default="adamw 0.05, adam 0, sgd 0.0001",
        rich_help_panel=_LEARNING,
        help="Weight decay, of all but norms and biases.",
    ),
]
MomentumOption = Annotated[
    float | None,
    typer.Option(
        show_default="0.9",
        rich_help_panel=_LEARNING,
        help="Momentum of sgd; of adamw and adam the first beta.",
    ),
]
WarmupStepsOption = Annotated[
    int | None,
    typer.Option(
        show_default="100",
        rich_help_panel=_LEARNING,
        help="Steps over which the learning rate rises; at most a quarter of all.",
    ),
]
EmaOption = Annotated[
    float | None,
    typer.Option(
        show_default="0.998",
        rich_help_panel=_LEARNING,
        help="Decay of the averaged weights, which are the ones that are kept.",
    ),
]
ClipOption = Annotated[
    float | None,
    typer.Option(
        show_default="10",
        rich_help_panel=_LEARNING,
        help="Gradients are shortened to at most this norm; 0: never.",
    ),
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        metavar="fp32|fp16|bf16",
        show_default="fp32",
        rich_help_panel=_LEARNING,
        help="Precision of the weights that are kept; they are validated as they are stored.",
    ),
]
SeedOption = Annotated[
    int | None,
    typer.Option(show_default="0", rich_help_panel=_LEARNING, help="Seed of everything random."),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        show_default="auto",
        rich_help_panel=_MACHINE,
        help="auto (the first GPU, else the CPU), cpu, cuda, cuda:1, ...",
    ),
]
PrecisionOption = Annotated[
    str | None,
    typer.Option(
        show_default="auto",
        rich_help_panel=_MACHINE,
        help="auto (bf16 where the device computes in it), fp32 or bf16.",
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        show_default="all cores",
        rich_help_panel=_MACHINE,
        help="CPU threads that compute; the same number makes a run repeatable.",
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        show_default="1 on a CPU, up to 8 beside a GPU",
        rich_help_panel=_MACHINE,
        help="Threads that cut crops.",
    ),
]
CacheMbOption = Annotated[
    float | None,
    typer.Option(
        show_default="2000",
        rich_help_panel=_MACHINE,
        help="Decoded images kept in memory, in megabytes.",
    ),
]
CacheDirOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        show_default="none",
        rich_help_panel=_MACHINE,
        help="Keep decoded images in this folder too, for later epochs and runs: for fast"
        " disks beside slow processors. 18 MB for a photograph of 6 megapixels.",
    ),
]
CacheGbOption = Annotated[
    float | None,
    typer.Option(
        metavar="GB",
        show_default="20",
        rich_help_panel=_MACHINE,
        help="Most that lies in --cache-dir, in gigabytes; when full it takes nothing more.",
    ),
]
MaxMegapixelsOption = Annotated[
    float | None,
    typer.Option(
        show_default="400",
        rich_help_panel=_MACHINE,
        help="Images above this many megapixels are refused.",
    ),
]
