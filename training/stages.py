"""`--stages`: shares of a run in which photographs are looked at in a lower scale."""

import re
from dataclasses import dataclass

from smallobj.boxes import InputError


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A share of a run's steps in which photographs are looked at in another scale."""

    scale: float  # pixels of a crop for each of the photograph
    share: float  # of all steps


def parse_stages(text: str | None) -> tuple[Stage, ...]:
    """The stages of SCALE:SHARE[,SCALE:SHARE...]; what they leave is native. None: all of it.

    Raises InputError where a scale is not in 0.1 to 1, a share is not above 0, or nothing is left.
    """
    stages = tuple(_stage(part) for part in text.split(",")) if text is not None else ()
    if sum(stage.share for stage in stages) >= 1:
        reason = "shares must sum to less than 1, to leave steps at native scale"
        raise InputError(reason, field="stages", value=text)
    return stages


def _stage(text: str) -> Stage:
    match = re.fullmatch(r"\s*(\d*\.?\d+)\s*:\s*(\d*\.?\d+)\s*", text)
    if match is None:
        raise InputError("SCALE:SHARE is wanted, such as 0.5:0.4", field="stages", value=text)
    stage = Stage(scale=float(match[1]), share=float(match[2]))
    if not 0.1 <= stage.scale <= 1:
        raise InputError("a scale must lie in 0.1 to 1", field="stages", value=text)
    if not stage.share > 0:
        raise InputError("a share must be above 0", field="stages", value=text)
    return stage
