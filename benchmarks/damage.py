"""Which share of damaged JPEG and PNG files is noticed: by `read_image` and by Pillow.

    python benchmarks/damage.py [--files 40] [--times 25]

The images that ship with the project, as JPEG of quality 90 and as PNG, are cut short, or
overwritten by random bytes somewhere behind the header. Changes that leave the pixels as they were
in both readers are not counted. torchvision's reader stands for JPEG alone: on a damaged PNG it
ends the process.
"""

import argparse
import io
import random
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image

from smallobj.boxes import InputError
from smallobj.datasets import read_image
from smallobj.datasets.shipped import DEEPPCB

HEADER_BYTES = 700  # tables of a JPEG, which a change makes unreadable or harmless
OPTIONS: dict[str, dict[str, int]] = {"JPEG": {"quality": 90}, "PNG": {"compress_level": 1}}
READERS = ("smallobj", "Pillow", "torchvision")


def main() -> None:
    """Print a line for each format and kind of damage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=40)
    parser.add_argument("--times", type=int, default=25)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    paths = sorted(DEEPPCB.rglob("*.png"))[: options.files]
    print(f"{'':32}{'damaged':>9}" + "".join(f"{name:>13}" for name in READERS))
    for form in ("JPEG", "PNG"):
        contents = [encoded(path, form) for path in paths]
        for name, damage in DAMAGES.items():
            row(f"{form}, {name}", contents, damage, options.times)


def row(
    name: str, contents: list[bytes], damage: Callable[[bytes, random.Random], bytes], times: int
) -> None:
    readers = READERS if name.startswith("JPEG") else READERS[:2]
    rng = random.Random(0)
    count = 0
    told: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a")
        for content in contents:
            path.write_bytes(content)
            right = read_image(path)
            for _ in range(times):
                damaged = damage(content, rng)
                path.write_bytes(damaged)
                seen = {reader: read(reader, path, damaged) for reader in readers}
                if all(image is not None and torch.equal(image, right) for image in seen.values()):
                    continue
                count += 1
                told.update(reader for reader, image in seen.items() if image is None)
    shares = "".join(f"{100 * told[reader] / max(1, count):>11.1f} %" for reader in readers)
    print(f"{name:32}{count:>9}{shares}", flush=True)


def read(reader: str, path: Path, content: bytes) -> Tensor | None:
    """The pixels, None where the reader notices the damage."""
    try:
        if reader == "smallobj":
            return read_image(path)
        if reader == "Pillow":
            with Image.open(io.BytesIO(content)) as picture:
                return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
        data = torch.from_numpy(np.frombuffer(content, np.uint8).copy())
        return decode_image(data, mode=ImageReadMode.RGB)
    except (InputError, OSError, ValueError, SyntaxError, RuntimeError):
        return None


def cut(content: bytes, rng: random.Random) -> bytes:
    return content[: int(len(content) * rng.uniform(0.01, 0.99))]


def last_byte(content: bytes, _: random.Random) -> bytes:
    return content[:-1]


def overwritten(length: int) -> Callable[[bytes, random.Random], bytes]:
    def damage(content: bytes, rng: random.Random) -> bytes:
        at = rng.randrange(HEADER_BYTES, len(content) - length)
        return content[:at] + rng.randbytes(length) + content[at + length :]

    return damage


DAMAGES = {
    "cut at 1 to 99 %": cut,
    "last byte lost": last_byte,
    "2,000 bytes overwritten": overwritten(2000),
    "50 bytes overwritten": overwritten(50),
    "1 byte overwritten": overwritten(1),
}


def encoded(path: Path, form: str) -> bytes:
    stream = io.BytesIO()
    with Image.open(path) as picture:
        picture.convert("RGB").save(stream, form, **OPTIONS[form])
    return stream.getvalue()


if __name__ == "__main__":
    main()
