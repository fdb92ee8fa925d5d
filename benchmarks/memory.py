"""Memory of `predict` from image 100 to the last, and of finding and writing many images.

    python benchmarks/memory.py [--images 1000] [--names 100000]

Small photographs, hard links to a dozen, through a tiny untrained detector; the resident memory of
this process is noted after image 100 and after the last. Finding and the last write are measured
without a detector, with 50 boxes an image. Linux only (/proc).
"""

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from smallobj.boxes import Classes
from smallobj.detectors import build_detector, describe
from smallobj.formats import RunInfo
from smallobj.prediction import PredictConfig, Seen, find_images, predict_run
from smallobj.prediction.part import PartFile, Stamp
from smallobj.prediction.writing import write_found
from smallobj.tta import Boxes, Tiling, parse_views
from smallobj.weights.manifest import Manifest

CLASSES = Classes.of(["a", "b"])
_EARLY = 100
_BOXES = 50


def main() -> None:
    """Print one line for each of the three."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--names", type=int, default=100_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        predicting(Path(folder), options.images)
        finding(Path(folder), options.names)
        writing(Path(folder), options.names // 10)
        writing(Path(folder), options.names)


def predicting(folder: Path, images: int) -> None:
    photos(folder / "photos", images)
    detector = build_detector(
        "centernet", num_classes=2, mean=(128.0,) * 3, std=(70.0,) * 3, size="tiny"
    )
    manifest = Manifest(
        **describe(detector), id="tiny", classes=CLASSES, train_crop_px=64, largest_object_px=30.0
    )
    views = parse_views("hflip", tiling=Tiling(side_px=160, overlap_px=32))
    rss: dict[int, float] = {}

    def note(done: int, _: int) -> None:
        if done in (_EARLY, images // 2, images):
            rss[done] = resident_mb()

    predict_run(
        detector,
        manifest,
        find_images(folder / "photos"),
        folder / "a.json",
        PredictConfig(views=views),
        on_progress=note,
    )
    early, last = rss[_EARLY], rss[images]
    told = ", ".join(f"image {done}: {mb:.1f} MB" for done, mb in rss.items())
    print(f"predicting {images} images: {told} ({100 * (last / early - 1):+.2f} % since {_EARLY})")
    print(f"  after the last write: {resident_mb():.1f} MB, peak {peak_mb():.1f} MB")


def photos(folder: Path, count: int) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(count):
        if i < 12:
            size = (200 + 10 * i, 240 - 5 * i)
            noise = Image.fromarray(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8))
            noise.resize(size).save(folder / f"{i}.jpg")
        else:
            os.link(folder / f"{i % 12}.jpg", folder / f"{i}.jpg")


def finding(folder: Path, count: int) -> None:
    (folder / "many").mkdir()
    for i in range(count):
        (folder / "many" / f"flight_{i // 1000}_{i:07d}.jpg").touch()
    before, begun = resident_mb(), time.perf_counter()
    files = find_images(folder / "many")
    seconds = time.perf_counter() - begun
    grown = resident_mb() - before
    print(f"finding {len(files.ids)} names: {grown:+.1f} MB, {seconds:.2f} s")


def writing(folder: Path, count: int) -> None:
    ids = tuple(f"flight_{i // 1000}_{i:07d}.jpg" for i in range(count))
    rng = np.random.default_rng(0)
    boxes = Boxes(rng.random((_BOXES, 4)), rng.random(_BOXES), np.zeros(_BOXES, np.int32))
    with PartFile(folder / "b.part.jsonl", {}, ids) as part:
        for i in range(count):
            part.append(i, Seen(0, 640, 480, boxes), 0.0, Stamp(1, 1))
        before, begun = resident_mb(), time.perf_counter()
        reset_peak()
        write_found(folder / "b.json", part, ids, RunInfo(model="tiny", classes=CLASSES))
        seconds, peak = time.perf_counter() - begun, peak_mb()
        part.remove()
    size = (folder / "b.json").stat().st_size / 1e6
    print(
        f"last write of {count} images x {_BOXES} boxes, {size:.0f} MB: {peak - before:+.1f} MB,"
        f" {seconds:.1f} s"
    )


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def peak_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ValueError("this system does not tell its peak memory")


if __name__ == "__main__":
    main()
