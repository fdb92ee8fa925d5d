"""Options of `train`: how long, how, and on what machine it learns."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

_length = partial(typer.Option, rich_help_panel="Length")
_learning = partial(typer.Option, rich_help_panel="Learning")
_machine = partial(typer.Option, rich_help_panel="Machine")

StepsOption = Annotated[
    int | None,
    _length(show_default="4000", help="Length of the training in steps."),
]
EpochsOption = Annotated[
    float | None,
    _length(
        help="Length of the training in passes over the data, instead of steps.",
    ),
]
TimeLimitOption = Annotated[
    str | None,
    _length(
        metavar="TIME",
        help="Length of the training in time, instead of steps: 90s, 30m, 2h. The first steps"
        " tell how many fit.",
    ),
]
ValidateEveryOption = Annotated[
    int | None,
    _length(
        show_default="about a seventh of the time",
        help="Steps between two validations.",
    ),
]
MetricOption = Annotated[
    str | None,
    _length(
        show_default="map50",
        help="What the best weights are best by: map50, map75 or map50_95.",
    ),
]
PatienceOption = Annotated[
    int | None,
    _length(
        metavar="N",
        show_default="never",
        help="End the training after N validations in a row without a better --metric.",
    ),
]
KeepLastOption = Annotated[
    int | None,
    _length(
        metavar="N",
        show_default="0",
        help="Keep the weights of the last N validations in OUT/checkpoints, for smallobj"
        " weights average.",
    ),
]
BatchOption = Annotated[
    int | None,
    _learning(show_default="16", help="Crops in each step."),
]
OptimizerOption = Annotated[
    str | None,
    _learning(show_default="adamw", help="Optimizer: adamw, adam or sgd."),
]
LrOption = Annotated[
    float | None,
    _learning(
        show_default="adamw 0.004, adam 0.001, sgd 0.02",
        help="Highest learning rate.",
    ),
]
WeightDecayOption = Annotated[
    float | None,
    _learning(
        show_default="adamw 0.05, adam 0, sgd 0.0001",
        help="Weight decay, of all but norms and biases.",
    ),
]
MomentumOption = Annotated[
    float | None,
    _learning(
        show_default="0.9",
        help="Momentum of sgd; of adamw and adam the first beta.",
    ),
]
WarmupStepsOption = Annotated[
    int | None,
    _learning(
        show_default="100",
        help="Steps over which the learning rate rises; at most a quarter of all.",
    ),
]
EmaOption = Annotated[
    float | None,
    _learning(
        show_default="0.998",
        help="Decay of the averaged weights, which are the ones that are kept.",
    ),
]
ClipOption = Annotated[
    float | None,
    _learning(
        show_default="10",
        help="Gradients are shortened to at most this norm; 0: never.",
    ),
]
StoreOption = Annotated[
    str | None,
    _learning(
        metavar="fp32|fp16|bf16",
        show_default="fp32",
        help="Precision of the weights that are kept; they are validated as they are stored.",
    ),
]
SeedOption = Annotated[
    int | None,
    _learning(show_default="0", help="Seed of everything random."),
]
DeviceOption = Annotated[
    str | None,
    _machine(
        show_default="auto",
        help="auto (the first GPU, else the CPU), cpu, cuda, cuda:1, ...",
    ),
]
PrecisionOption = Annotated[
    str | None,
    _machine(
        show_default="auto",
        help="auto (bf16 where the device computes in it), fp32 or bf16.",
    ),
]
ThreadsOption = Annotated[
    int | None,
    _machine(
        show_default="all cores",
        help="CPU threads that compute; the same number makes a run repeatable.",
    ),
]
RecordOption = Annotated[
    bool | None,
    _machine(
        "--record/--no-record",
        show_default="record",
        help="On a GPU, record the network's kernels once and start them together: small"
        " detectors learn much faster.",
    ),
]
WorkersOption = Annotated[
    int | None,
    _machine(
        show_default="1 on a CPU, up to 16 beside a GPU",
        help="Threads on a CPU, processes beside a GPU, that cut crops.",
    ),
]
CacheMbOption = Annotated[
    float | None,
    _machine(
        show_default="2000",
        help="Decoded images kept in memory, in megabytes.",
    ),
]
CacheDirOption = Annotated[
    Path | None,
    _machine(
        metavar="DIR",
        show_default="none",
        help="Keep decoded images in this folder too, for later epochs and runs: for fast"
        " disks beside slow processors. 18 MB for a photograph of 6 megapixels.",
    ),
]
CacheGbOption = Annotated[
    float | None,
    _machine(
        metavar="GB",
        show_default="20",
        help="Most that lies in --cache-dir, in gigabytes; when full it takes nothing more.",
    ),
]
MaxMegapixelsOption = Annotated[
    float | None,
    _machine(
        show_default="400",
        help="Images above this many megapixels are refused.",
    ),
]
