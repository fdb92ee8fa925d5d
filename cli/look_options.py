"""Options that say how a model looks at images, the same in every command that has one look."""

from typing import Annotated

import typer

VIEWS_HELP = """Ways to look at each image. Commas multiply, | lists alternatives, and looking
plainly is one of them unless a factor begins with only: - so hflip,scale=0.75|1 is
{plain, hflip} x {0.75, 1}. Known: identity, hflip, vflip, rot90, rot180, rot270, transpose,
antitranspose; the sets flips, rotations, d4; scale=S; brightness=F, contrast=F; tile=N,
tile=N:OVERLAP; whole (downscaled to a tile's side), whole=N; squash=N (the whole image, N x N
pixels whatever its shape)."""

TileOption = Annotated[
    str | None,
    typer.Option(
        metavar="auto|N|0", help="Side of the tiles in pixels; 0: none.", show_default="auto"
    ),
]
OverlapOption = Annotated[
    int | None,
    typer.Option(help="Least overlap of tiles in pixels.", show_default="largest object"),
]
BatchOption = Annotated[
    str,
    typer.Option(
        metavar="auto|N",
        help="Patches in each forward pass; auto: as many as pay. Halved where memory is short.",
    ),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
PrecisionOption = Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")]
ThreadsOption = Annotated[
    int | None, typer.Option(min=1, help="CPU threads of the network.", show_default="all")
]


def batch_of(given: str) -> int | None:
    """Patches in each forward pass as --batch says; None: auto."""
    from smallobj.boxes import InputError

    if given == "auto":
        return None
    if not (given.isascii() and given.isdigit() and len(given) < 7):
        raise InputError("auto or a number of patches is wanted", field="batch", value=given)
    return int(given)
