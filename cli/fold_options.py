"""Options that say how images are dealt into folds, the same in every command that chooses."""

from typing import Annotated

import typer

FoldsOption = Annotated[int, typer.Option(help="Parts that the images are dealt into, at least 2.")]
GroupsOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|PATTERN",
        help="Images that stay together, as frames of one film: a file of image,group lines, or"
        " a regular expression whose first (...) in the image's id is the group.",
    ),
]
FoldSeedOption = Annotated[
    int, typer.Option(min=0, help="Decides how images are dealt and drawn at random.")
]
