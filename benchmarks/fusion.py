"""How fast runs are fused and tuned, ours beside ensemble-boxes, in one run of some four minutes.

    python benchmarks/fusion.py [--images 1717] [--largest 100000] [--only fuse,views,...]

1,717 images x 5 runs x 60 boxes, 30 classes, as in a contest of small objects: every run sees most
of 1 to 5 objects an image, and much that is not there. Ours and ensemble-boxes take turns, so that
a noisy machine is noisy to both; the library's compiled functions are warm before. The thousand
settings stand against a loop over ensemble-boxes and hotcoco (extra `bench`), of which ten settings
are timed, ensemble-boxes on every third image.
"""

import argparse
import contextlib
import io
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from rich.console import Console
from rich.table import Table

from smallobj.boxes import BoxTable, Classes, Images, xyxy_to_xywh
from smallobj.boxes.compiled import cpu_count
from smallobj.ensemble import CONFIDENCE_RULES, FusionConfig, fuse, nms, score_settings
from smallobj.ensemble.reference import fuse_reference
from smallobj.evaluation import map_score
from smallobj.formats import RunInfo, write_run

IMAGES, RUNS, BOXES, CLASSES = 1717, 5, 60, 30
WIDTH, HEIGHT = 2800, 2100
ROUNDS = 7
CHUNK = 10_000  # images fused at once where there are more, as `smallobj fuse` does
PARTS = ("fuse", "views", "settings", "growth", "command")
GOALS = {"WBF": 200, "soft-NMS, gaussian": 150, "soft-NMS, linear": 150, "NMW": 150}
GOAL_VIEWS, GOAL_SETTINGS = 300, 175
EVERY = 3  # of the images in the library's loop over settings
METHODS = {
    "WBF": FusionConfig(),
    "NMS": FusionConfig(method="nms"),
    "soft-NMS, gaussian": FusionConfig(method="soft_nms"),
    "soft-NMS, linear": FusionConfig(method="soft_nms", soft="linear"),
    "NMW": FusionConfig(method="nmw"),
}
WEIGHTS = (
    (1, 1, 1, 1, 1),
    (2, 1, 1, 1, 1),
    (0, 1, 1, 1, 1),
    (1, 2, 1, 1, 1),
    (3, 2, 1, 1, 1),
    (5, 4, 3, 2, 1),
)
SETTINGS = [
    FusionConfig(iou=iou, skip=skip, conf_type=rule, weights=weights)
    for weights, iou, skip, rule in product(
        WEIGHTS,
        (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8),
        (0.0001, 0.001, 0.01, 0.05),
        CONFIDENCE_RULES,
    )
][:1000]


def make_data(
    seed: int = 0, images_count: int = IMAGES, runs_count: int = RUNS, boxes: int = BOXES
) -> tuple[BoxTable, list[BoxTable]]:
    """Truth of 1 to 5 objects an image, and runs of so many boxes an image."""
    rng = np.random.default_rng(seed)
    images = Images.of([f"{i}.jpg" for i in range(images_count)], [(WIDTH, HEIGHT)] * images_count)
    classes = Classes.of([f"class {c}" for c in range(CLASSES)])
    objects = rng.integers(1, 6, images_count)
    index = np.repeat(np.arange(images_count), objects)
    xyxy, label = _boxes(rng, len(index))
    truth = BoxTable.build(
        images=images, classes=classes, image_index=index, xyxy=xyxy, label=label
    )
    runs = []
    for _ in range(runs_count):
        seen = rng.random(len(index)) < 0.8
        noise = np.repeat(
            np.arange(images_count), boxes - np.bincount(index[seen], minlength=images_count)
        )
        noise_xyxy, noise_label = _boxes(rng, len(noise))
        found = xyxy[seen] + rng.normal(0, 3, (int(seen.sum()), 4))
        score = np.concatenate([rng.uniform(0.2, 1, len(found)), rng.random(len(noise)) ** 4])
        runs.append(
            BoxTable.build(
                images=images,
                classes=classes,
                image_index=np.concatenate([index[seen], noise]),
                xyxy=np.concatenate([found, noise_xyxy]).round(3),
                label=np.concatenate([label[seen], noise_label]),
                score=score.round(6),
            )
        )
    return truth, runs


def _boxes(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    sides = rng.uniform(10, 100, (count, 2))
    corner = rng.uniform(0, [WIDTH, HEIGHT] - sides)
    return np.concatenate([corner, corner + sides], axis=1), rng.integers(0, CLASSES, count)


def time_fusion(runs: list[BoxTable], config: FusionConfig) -> tuple[float, float]:
    """Seconds of fusing all images: ours, and the library's, in turns by a share of the images."""
    first = [run.take_images(np.arange(1)) for run in runs]
    fuse(runs, config)
    fuse_reference(first, config)  # parts of the library are compiled at their first call
    ours, reference = [], []
    images = len(runs[0].images)
    for part in np.array_split(np.arange(images), ROUNDS):
        share = [run.take_images(part) for run in runs]
        took = _seconds(lambda share=share: fuse_reference(share, config))
        reference.append(took * images / len(part))
        ours += [_seconds(lambda: fuse(runs, config)) for _ in range(3)]
    return median(ours), median(reference)


def time_settings(truth: BoxTable, runs: list[BoxTable]) -> tuple[float, float]:
    """Seconds of scoring all SETTINGS: ours, and by ten in a loop over the two libraries."""
    score_settings(truth, runs, SETTINGS[:1])
    ours = _seconds(lambda: score_settings(truth, runs, SETTINGS))
    ten = SETTINGS[:: len(SETTINGS) // 10][:10]
    some = np.arange(0, len(truth.images), EVERY)
    share = [run.take_images(some) for run in runs]
    reference = 0.0
    for config in ten:
        took = _seconds(lambda config=config: fuse_reference(share, config))
        reference += took * len(truth.images) / len(some)
        reference += _hotcoco_seconds(truth, fuse(runs, config))
    return ours, reference / len(ten) * len(SETTINGS)


def _hotcoco_seconds(truth: BoxTable, predictions: BoxTable) -> float:
    """Seconds of hotcoco alone, its input ready."""
    import hotcoco  # noqa: PLC0415 - the extra `bench`

    labels = {
        "images": [{"id": i, "width": WIDTH, "height": HEIGHT} for i in range(len(truth.images))],
        "categories": [{"id": c, "name": name} for c, name in enumerate(truth.classes.names)],
        "annotations": [
            {**row, "id": k + 1, "area": row["bbox"][2] * row["bbox"][3], "iscrowd": 0}
            for k, row in enumerate(_rows(truth))
        ],
    }
    found = [
        {**row, "score": score}
        for row, score in zip(_rows(predictions), predictions.score, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = hotcoco.COCO(labels)
        results = coco.loadRes(found)
        start = perf_counter()
        job = hotcoco.COCOeval(coco, results, "bbox")
        job.evaluate()
        job.accumulate()
        return perf_counter() - start


def _rows(table: BoxTable) -> Iterator[dict]:
    columns = (table.image_index.tolist(), table.label.tolist(), xyxy_to_xywh(table.xyxy).tolist())
    for image, label, box in zip(*columns, strict=True):
        yield {"image_id": image, "category_id": label, "bbox": box}


def time_growth(largest: int) -> list[tuple[int, float]]:
    """Numbers of images, and seconds to fuse them in chunks; from 10,000 on a chunk comes again."""
    rows = []
    for images in (1_000, 10_000, 100_000):
        if images <= largest:
            _, runs = make_data(images, min(CHUNK, images))
            fuse(runs)
            seconds = _seconds(lambda runs=runs: [fuse(runs) for _ in range(0, images, CHUNK)])  # noqa: B023
            rows.append((images, seconds))
    return rows


def time_command(runs: list[BoxTable]) -> tuple[float, list[float]]:
    """Megabytes of JSON, and seconds of `smallobj fuse` from the shell, compiled code cached."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"run{number}.json" for number in range(RUNS)]
        for path, run in zip(paths, runs, strict=True):
            write_run(path, run, RunInfo(model=path.stem, classes=run.classes))
        size = sum(path.stat().st_size for path in paths) / 1e6
        program = Path(sys.executable).with_name("smallobj")
        command = [program, "fuse", *paths, "--out", Path(folder) / "out" / "fused.json"]
        times = [
            _seconds(lambda: subprocess.run(command, check=True, capture_output=True))
            for _ in range(4)
        ]
    return size, times[1:]


def _seconds(work: Callable[[], object]) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--largest", type=int, default=100_000)
    parser.add_argument("--only", default=",".join(PARTS), help="some of " + ",".join(PARTS))
    arguments = parser.parse_args()
    wanted, images = arguments.only.split(","), arguments.images
    if unknown := set(wanted) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    truth, runs = make_data(images_count=images)
    fused = fuse(runs)
    table = Table(
        title=f"{images} images x {RUNS} runs x {BOXES} boxes, {CLASSES} classes;"
        f" {cpu_count()} cores; map50 of the fused run {map_score(truth, fused):.3f}"
    )
    for name in ("what", "seconds", "an image", "the libraries'", "times", "goal"):
        table.add_column(name, justify="left" if name == "what" else "right")

    def add(
        name: str, count: int, ours: float, reference: float | None = None, goal: str = ""
    ) -> None:
        against = ("", "") if reference is None else (f"{reference:.2f}", f"{reference / ours:.0f}")
        row = (name, f"{ours:.3f}", f"{ours / count * 1e3:.4f} ms", *against, goal)
        table.add_row(*row)
        print(" | ".join(row), file=sys.stderr, flush=True)  # what is done, should it be ended

    if "fuse" in wanted:
        for name, config in METHODS.items():
            add(name, images, *time_fusion(runs, config), str(GOALS.get(name, "")))
        alone = min(_seconds(lambda: nms(fused, 0.5)) for _ in range(5))
        add("nms of the fused run", images, alone)
    if "views" in wanted:
        count = max(images // 30, ROUNDS)
        _, views = make_data(1, images_count=count, runs_count=42, boxes=100)
        timed = time_fusion(views, FusionConfig())
        add(f"WBF, {count} images x 42 views x 100 boxes", count, *timed, str(GOAL_VIEWS))
    if "settings" in wanted:
        timed = time_settings(truth, runs)
        add(f"map50 of {len(SETTINGS)} settings", images, *timed, f"{GOAL_SETTINGS}, 60 s")
    if "growth" in wanted:
        for count, seconds in time_growth(arguments.largest):
            add(f"WBF, {count:,} images", count, seconds, goal="linear")
    if "command" in wanted:
        size, command = time_command(runs)
        add(f"smallobj fuse, {size:.0f} MB of JSON", images, median(command))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
