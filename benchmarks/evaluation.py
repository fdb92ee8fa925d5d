"""COCO's twelve numbers of one large set: ours, pycocotools' and hotcoco's times in one run.

    python benchmarks/evaluation.py [--images 1717] [--repeats 15]
    python benchmarks/evaluation.py --intervals 150

Needs the extra `bench`. Every image has 1 to 5 true boxes and 100 detections of 30 classes. With
--intervals: how many intervals of that many random sets of 150 images hold the sets' mean score.
"""

import argparse
import contextlib
import io
import time
from collections.abc import Callable
from typing import Any

import hotcoco
import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from smallobj.boxes import BoxTable, Classes, Images, box_area, xyxy_to_xywh
from smallobj.boxes.compiled import cpu_count
from smallobj.evaluation import (
    bootstrap_interval,
    bootstrap_scores,
    coco_summary,
    compare_runs,
    evaluate,
    interval_of,
    map_score,
    match,
    mean_precision,
    mean_precisions,
    prepare_truth,
    thresholds_of,
)

CLASSES, DETECTIONS, SIDE_PX = 30, 100, 2100


def random_tables(images: int, seed: int = 0) -> tuple[BoxTable, BoxTable]:
    """Truth, and detections of which one in ten lies on a true box, shifted by about a tenth."""
    rng = np.random.default_rng(seed)
    known = {
        "images": Images.of([str(i) for i in range(images)], [(SIDE_PX, SIDE_PX)] * images),
        "classes": Classes.of([f"class {c}" for c in range(CLASSES)]),
    }
    image = np.repeat(np.arange(images), rng.integers(1, 6, images))
    label = rng.integers(0, CLASSES, len(image)).astype(np.int32)
    truth = BoxTable.build(
        **known, image_index=image, xyxy=_random_boxes(rng, len(image)), label=label
    )
    count = images * DETECTIONS
    detected = np.repeat(np.arange(images), DETECTIONS)
    xyxy = _random_boxes(rng, count)
    labels = rng.integers(0, CLASSES, count).astype(np.int32)
    near = np.flatnonzero(rng.random(count) < 0.1)
    first, last = truth.offsets[detected[near]], truth.offsets[detected[near] + 1]
    chosen = rng.integers(first, last)
    side = np.sqrt(box_area(truth.xyxy[chosen]))[:, None]
    xyxy[near] = truth.xyxy[chosen] + rng.normal(0, 0.07, (len(near), 4)) * side
    labels[near] = truth.label[chosen]
    score = rng.random(count) ** 3
    score[near] = rng.random(len(near)) ** 0.5
    predictions = BoxTable.build(
        **known, image_index=detected, xyxy=xyxy, label=labels, score=score
    )
    return truth, predictions


def _random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    corner = rng.uniform(0, SIDE_PX - 100, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(10, 100, (count, 2))], axis=1)


def coco_dicts(truth: BoxTable, predictions: BoxTable) -> tuple[dict, list[dict]]:
    """The same boxes as COCO's own objects, image i with the id i + 1."""
    images = [{"id": i + 1, "width": SIDE_PX, "height": SIDE_PX} for i in range(len(truth.images))]
    categories = [{"id": c, "name": name} for c, name in enumerate(truth.classes.names)]
    annotations = [
        {**row, "id": i + 1, "area": row["bbox"][2] * row["bbox"][3], "iscrowd": 0}
        for i, row in enumerate(_rows(truth))
    ]
    assert predictions.score is not None
    scored = [
        {**row, "score": score}
        for row, score in zip(_rows(predictions), predictions.score.tolist(), strict=True)
    ]
    return {"images": images, "categories": categories, "annotations": annotations}, scored


def _rows(table: BoxTable) -> list[dict]:
    columns = table.image_index.tolist(), table.label.tolist(), xyxy_to_xywh(table.xyxy).tolist()
    return [
        {"image_id": i + 1, "category_id": c, "bbox": xywh}
        for i, c, xywh in zip(*columns, strict=True)
    ]


def reference(coco: Any, evaluator: Any, labels: dict, detections: list[dict]) -> Callable[[], Any]:
    """A run of another tool from objects in memory to its twelve numbers; loading is not timed."""
    truth = coco(labels) if coco is hotcoco.COCO else coco()
    if coco is not hotcoco.COCO:
        truth.dataset = labels
        truth.createIndex()
    found = truth.loadRes(detections)

    def run() -> Any:
        job = evaluator(truth, found, "bbox")
        job.evaluate()
        job.accumulate()
        job.summarize()
        return job.stats

    return run


def seconds(run: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """The best time of `repeats`, and what the run returned."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            result = run()
        times.append(time.perf_counter() - start)
    return min(times), result


def in_turns(runs: dict[str, Callable[[], Any]], repeats: int) -> tuple[dict, dict]:
    """Best time of each run and median of its time over the last one's in the same round.

    In turns, so that what else the machine does meets all of them alike.
    """
    rounds = [{name: seconds(run, 1)[0] for name, run in runs.items()} for _ in range(repeats)]
    last = list(runs)[-1]
    best = {name: min(one[name] for one in rounds) for name in runs}
    return best, {name: np.median([one[name] / one[last] for one in rounds]) for name in runs}


def intervals(sets: int, images: int = 150, samples: int = 200) -> None:
    """Print the share of 95 % intervals that hold the mean map50 of all sets."""
    scores, draws = [], []
    for seed in range(sets):
        truth, predictions = random_tables(images, seed)
        matches = match(prepare_truth(truth), predictions, thresholds_of("map50"))
        scores.append(mean_precision(matches))
        draws.append(bootstrap_scores(matches, samples=samples)[:, 0])
    plain = [np.percentile(one, (2.5, 97.5)) for one in draws]
    moved = [interval_of(one, score) for one, score in zip(draws, scores, strict=True)]
    mean = np.mean(scores)
    for name, ends in (("plain percentiles", plain), ("moved to the score", moved)):
        share = np.mean([low <= mean <= high for low, high in ends])
        print(f"{name:20} hold the mean score in {share:.0%} of {sets} sets")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1717)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--intervals", type=int, metavar="SETS")
    arguments = parser.parse_args()
    if arguments.intervals:
        intervals(arguments.intervals)
        return
    truth, predictions = random_tables(arguments.images)
    labels, detections = coco_dicts(truth, predictions)
    with contextlib.redirect_stdout(io.StringIO()):
        slow_one = reference(COCO, COCOeval, labels, detections)
        quick_one = reference(hotcoco.COCO, hotcoco.COCOeval, labels, detections)
    coco_summary(truth, predictions)  # compiled, or read from the cache
    slow, theirs = seconds(slow_one, 1)
    numbers, hot = coco_summary(truth, predictions), seconds(quick_one, 1)[1]
    both = {"hotcoco": quick_one, "ours": lambda: coco_summary(truth, predictions)}
    best, ratio = in_turns(both, arguments.repeats)
    for name, stats in (("pycocotools", theirs), ("hotcoco", hot)):
        gap = np.abs(np.array(list(numbers.values())) - np.array(stats)).max()
        print(f"largest difference from {name}'s twelve numbers: {gap:.1e}")
    print(f"\n{len(predictions)} detections, {len(truth)} true boxes, {cpu_count()} cores")
    print(f"{'twelve COCO numbers':30} {'seconds':>9} {'ours is faster by':>18}")
    print(f"{'pycocotools':30} {slow:9.4f} {slow / best['ours']:17.1f}x")
    for name, time_s in best.items():
        print(f"{name:30} {time_s:9.4f} {ratio[name]:17.1f}x")
    matches = match(prepare_truth(truth), predictions, thresholds_of("map50"))
    weights = np.random.default_rng(0).integers(0, 3, (120, len(truth.images)))
    own = {
        "map50": lambda: map_score(truth, predictions),
        "evaluate, all tables": lambda: evaluate(truth, predictions),
        "map50 of 120 parts, one by one": lambda: [
            mean_precision(matches, weight=one) for one in weights
        ],
        "map50 of 120 parts, together": lambda: mean_precisions(matches, weights),
        "1,000 bootstrap samples": lambda: bootstrap_interval(truth, predictions, "map50_95"),
        "compare two runs, 1,000 samples": lambda: compare_runs(truth, [predictions] * 2),
    }
    for name, run in own.items():
        run()
        print(f"{name:31} {seconds(run, arguments.repeats)[0]:8.4f}")


if __name__ == "__main__":
    main()
