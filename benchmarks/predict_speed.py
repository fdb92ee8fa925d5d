"""Predicting from end to end against the bare forward passes of the same batches, taking turns.

    python benchmarks/predict_speed.py [--images FOLDER] [--arch centernet yolo]

End to end is `predict_run`: photographs of 2800 x 2100 px are decoded, cut into tiles of 640 px,
batched, run, decoded into boxes, suppressed, merged and written. The batches that the engine ran
are kept and run again, the network alone, in the same mode, precision and number of threads. Each
round does the one and then the other; a ratio is that of a round, and its median and range are
printed. The photographs are mosaics of real images, those of FOLDER or the DeepPCB scans that come
with smallobj, as JPEG of quality 90 in a temporary folder.

Untrained weights: they do not change the time of the network. What they would change is how many
candidates there are, so the least score is put where --candidates of them a tile pass, and no more
are taken of a tile.

The last columns count the time of all processors, which other work on the machine does not change:
what predicting spends beside the forward passes, of all that it spends. Where the network keeps
every core busy by itself, the clock cannot show less.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image

from smallobj.boxes import Classes
from smallobj.detectors import Detector, build_detector, describe, detector_class
from smallobj.prediction import (
    ImageFiles,
    PredictConfig,
    autocast,
    choose_precision,
    find_images,
    predict_run,
    threads_of,
)
from smallobj.tta import Tiling, View
from smallobj.weights.manifest import Manifest

WIDTH, HEIGHT = 2800, 2100
TILES = View(tiling=Tiling(side_px=640, overlap_px=128))
CLASSES = Classes.of([str(i) for i in range(6)])
SHIPPED = Path(__file__).resolve().parents[1] / "datasets" / "deeppcb"


class Spent(NamedTuple):
    """Seconds by the clock, and seconds of all processors."""

    wall: float
    busy: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, default=SHIPPED, help="real ones, at all levels")
    parser.add_argument("--arch", nargs="*", default=["centernet", "yolo"])
    parser.add_argument("--size", help="of the detectors; their usual one where none is given")
    parser.add_argument("--photos", type=int, default=4)
    parser.add_argument("--candidates", type=int, default=20, help="a tile, on average")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print("| detector | precision | forward s/photo | end to end | outside |")
    print("|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as name, threads_of(options.threads):
        folder = Path(name)
        make_photos(options.images, folder / "photos", options.photos)
        files = find_images(folder / "photos")
        for arch in options.arch:
            print(_row(arch, options, files, folder), flush=True)


def make_photos(images: Path, folder: Path, count: int) -> None:
    """Mosaics of 3 x 2 of the images, whatever their shape, every one with others."""
    folder.mkdir()
    paths = itertools.cycle(find_images(images).paths)
    tile = (-(-WIDTH // 3), HEIGHT // 2)
    for number in range(count):
        photo = Image.new("RGB", (WIDTH, HEIGHT))
        for place in range(6):
            with Image.open(next(paths)) as part:  # type: ignore[arg-type]  # no archive
                pixels = part.convert("RGB").resize(tile, Image.Resampling.BICUBIC)
            photo.paste(pixels, (place % 3 * tile[0], place // 3 * tile[1]))
        photo.save(folder / f"{number}.jpg", quality=90)


def _row(arch: str, options: argparse.Namespace, files: ImageFiles, folder: Path) -> str:
    size = options.size or detector_class(arch).Config.usual_size()
    detector, manifest = _model(arch, size)
    config = PredictConfig(views=(TILES,), precision=options.precision)
    outs = (folder / f"{arch}{turn}.json" for turn in itertools.count())

    def whole() -> None:
        predict_run(detector, manifest, files, next(outs), config)

    with _kept(detector) as batches:
        whole()
    _let_pass(detector, batches, options.candidates, options.precision)
    forwards, wholes = [], []
    for turn in range(options.rounds + 1):
        forward = _spent(lambda: _forward(detector, batches, options.precision))
        end_to_end = _spent(whole)
        if turn:
            forwards.append(forward)
            wholes.append(end_to_end)
    seconds = statistics.median(f.wall for f in forwards) / options.photos
    ratios = sorted(w.wall / f.wall for w, f in zip(wholes, forwards, strict=True))
    outside = statistics.median(1 - f.busy / w.busy for w, f in zip(wholes, forwards, strict=True))
    precision = choose_precision(torch.device("cpu"), options.precision)
    return (
        f"| {arch} {size} | {precision} | {seconds:.2f}"
        f" | {statistics.median(ratios):.3f}x ({ratios[0]:.3f} to {ratios[-1]:.3f})"
        f" | {100 * outside:.1f} % |"
    )


def _model(arch: str, size: str) -> tuple[Detector, Manifest]:
    torch.manual_seed(0)
    grey = (127.0, 127.0, 127.0)
    detector = build_detector(arch, num_classes=len(CLASSES), mean=grey, std=grey, size=size)
    manifest = Manifest(
        **describe(detector), id=arch, classes=CLASSES, train_crop_px=640, largest_object_px=128.0
    )
    return detector.eval(), manifest


@contextmanager
def _kept(detector: Detector) -> Iterator[list[torch.Tensor]]:
    """The batches that go through a detector, as they are given to it."""
    batches: list[torch.Tensor] = []
    hook = detector.register_forward_pre_hook(lambda _, given: batches.append(given[0].clone()))
    try:
        yield batches
    finally:
        hook.remove()


def _forward(detector: Detector, batches: list[torch.Tensor], precision: str) -> None:
    context = autocast(torch.device("cpu"), precision)
    with torch.inference_mode():
        for images in batches:
            with context:
                detector(images)


def _let_pass(detector: Detector, batches: list[torch.Tensor], wanted: int, precision: str) -> None:
    """Raise the least score until `wanted` candidates a tile pass, on average; no tile has more."""
    scores = []
    with torch.inference_mode():
        for images in batches[:: max(1, len(batches) // 4)]:
            with autocast(torch.device("cpu"), precision):
                raw = detector(images)
            scores.append(detector.boxes(raw, (images.shape[2], images.shape[3]))[0])
    tiles = sum(map(len, scores))
    least = torch.cat([s.flatten() for s in scores]).topk(wanted * tiles).values[-1]
    detector.config = replace(detector.config, min_score=float(least), max_candidates=wanted)


def _spent(work: Callable[[], None]) -> Spent:
    wall, busy = time.perf_counter(), time.process_time()
    work()
    return Spent(time.perf_counter() - wall, time.process_time() - busy)


if __name__ == "__main__":
    main()
