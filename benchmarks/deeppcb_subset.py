"""Makes the images that ship in datasets/deeppcb from a checkout of DeepPCB (MIT).

python benchmarks/deeppcb_subset.py ../shared/data/deeppcb datasets/deeppcb

Other benchmarks take whole boards from the same checkout (`write_boards`).
"""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

NAMES = ("open", "short", "mousebite", "spur", "copper", "pin-hole")  # types 1 to 6
TRAINING_BOARDS = ("00041", "12000", "12100", "12300")
VALIDATION_BOARDS = ("13000", "44000")
TRAINING_IMAGES, VALIDATION_IMAGES = 360, 60


def main(source: Path, target: Path) -> None:
    images = sorted(source.glob("PCBData/*/*/*_test.jpg"))
    training = [i for i in images if i.name.startswith(TRAINING_BOARDS)]
    validation = [i for i in images if not i.name.startswith(TRAINING_BOARDS)]
    for split, chosen in (
        ("train", evenly(training, TRAINING_IMAGES)),
        ("val", evenly(validation, VALIDATION_IMAGES)),
    ):
        for image in chosen:
            write_pair(image, target, split)
    write_names(target)


def evenly(items: list[Path], count: int) -> list[Path]:
    return [items[i * len(items) // count] for i in range(count)]


def write_boards(source: Path, target: Path, parts: Mapping[str, tuple[str, ...]]) -> None:
    """The scans of whole boards as they are, by part, with labels as YOLO has them."""
    for part, boards in parts.items():
        for image in sorted(source.glob("PCBData/*/*/*_test.jpg")):
            if image.name.startswith(boards):
                picture = target / "images" / part / image.name.replace("_test", "")
                picture.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(image, picture)
                write_labels(image, target, part)
    write_names(target)


def write_pair(image: Path, target: Path, split: str) -> None:
    name = image.name.removesuffix("_test.jpg")
    picture = target / "images" / split / f"{name}.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(image) as scan:
        # The scans are binary: one bit a pixel undoes what JPEG added.
        scan.convert("L").point(lambda v: 255 * (v >= 128)).convert(
            "1", dither=Image.Dither.NONE
        ).save(picture, optimize=True)
    write_labels(image, target, split)


def write_labels(image: Path, target: Path, split: str) -> None:
    """The labels of a scan as YOLO has them."""
    name = image.name.removesuffix("_test.jpg")
    labels = image.parents[1] / f"{image.parent.name}_not" / f"{name}.txt"
    rows = target / "labels" / split / f"{name}.txt"
    rows.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(image) as scan:
        width, height = scan.size
    lines = []
    for row in labels.read_text().split("\n"):
        if row.strip():
            x1, y1, x2, y2, kind = map(int, row.split())
            centre = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height)
            lines.append(
                f"{kind - 1} {centre[0]} {centre[1]} {(x2 - x1) / width} {(y2 - y1) / height}\n"
            )
    rows.write_text("".join(lines))


def write_names(target: Path) -> None:
    """data.yaml: the parts and the classes."""
    names = "".join(f"  {i}: {name}\n" for i, name in enumerate(NAMES))
    header = "path: .\ntrain: images/train\nval: images/val\nnames:\n"
    (target / "data.yaml").write_text(header + names)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
