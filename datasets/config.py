"""How the samples that a detector learns from are cut and changed."""

from dataclasses import dataclass, fields, replace
from typing import Self

from smallobj.boxes import InputError
from smallobj.datasets.augment import SYMMETRIES

INPUTS = ("crops", "squash")  # how a detector sees photographs, learning and predicting
_OF_CROPS_ALONE = (
    "scale",
    "background",
    "crops_per_image",
    "balance",
    "scale_jitter",
    "mosaic",
    "paste",
    "min_visible",
)


@dataclass(frozen=True, kw_only=True)
class CropConfig:
    """How crops are cut and changed. Raises InputError, naming the field, on a wrong value.

    Of whole images squashed, which none is cut from, `crop`, `colour` and `symmetry` can be set.
    """

    crop: int = 256  # side in pixels of what the detector sees
    input: str = "crops"  # or squash: whole images, resized to crop x crop px whatever their shape
    scale: float = 1.0  # pixels of a crop for each of the photograph, before the jitter
    background: float = 0.15  # share of crops at places without an object
    crops_per_image: int = 8  # at most, an epoch; one an object where there are fewer objects
    balance: float = 1.0  # boxes of a class of n are drawn by n ** -balance; 1: classes alike
    scale_jitter: float = 0.25  # half of the crops are scaled by up to 1.25 or down to 1 / 1.25
    mosaic: float = 0.0  # share of crops put together from four
    paste: float = 0.0  # share of crops into which 1 to 3 objects of other images are pasted
    colour: float = 0.2  # strength of the change of colours; 0 is none
    symmetry: str = "all"  # flips and turns: all, mirror (left and right alone) or none
    min_visible: float = 0.4  # share of a cut box's area that must be in the crop to be taught

    def __post_init__(self) -> None:
        for name, low, high in (
            ("crop", 32, 4096),
            ("scale", 0.05, 1),
            ("background", 0, 0.9),
            ("crops_per_image", 1, 1000),
            ("balance", 0, 1),
            ("scale_jitter", 0, 4),
            ("mosaic", 0, 1),
            ("paste", 0, 1),
            ("colour", 0, 0.9),
            ("min_visible", 0, 1),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(f"must lie in {low} to {high}", field=name, value=value)
        if self.symmetry not in SYMMETRIES:
            known = ", ".join(SYMMETRIES)
            raise InputError(f"must be one of {known}", field="symmetry", value=self.symmetry)
        self._check_input()

    def _check_input(self) -> None:
        if self.input not in INPUTS:
            known = ", ".join(INPUTS)
            raise InputError(f"must be one of {known}", field="input", value=self.input)
        usual = {f.name: f.default for f in fields(self)}
        for name in _OF_CROPS_ALONE:
            value = getattr(self, name)
            if self.input == "squash" and value != usual[name]:
                reason = "is for crops: of an image that is squashed whole there are none"
                raise InputError(reason, field=name, value=value)

    @property
    def squash_px(self) -> int | None:
        """The side that images are squashed to; None: they are not."""
        return self.crop if self.input == "squash" else None

    def plain(self) -> Self:
        """The same without augmentation: mosaic, paste, scale jitter and colour; symmetry stays."""
        if self.input == "squash":
            return replace(self, colour=0.0)
        return replace(self, mosaic=0.0, paste=0.0, scale_jitter=0.0, colour=0.0)
