"""What calibrating each detector brings: reliability error and fusion, all out of fold.

    python benchmarks/calibration.py ../shared/data/wider_predictions [--rules] [--learnt]

Three face detectors on 1,793 images (benchmarks/wider.py reads them), at most 1,000 boxes an image,
IoU 0.5. Every image's scores are calibrated by a map fitted on the images of four other folds of
five. Fusion is untuned: weighted boxes fusion at IoU 0.55, equal weights, no score left out.
--rules: every confidence rule, instead of the default alone. --learnt: the fused boxes' confidence
learnt on the other folds too, also where the folds keep the images of an event together, and where
few images were there to learn from.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from wider import DETECTORS, read_wider

from smallobj.boxes import BoxTable, concatenate
from smallobj.ensemble import CONFIDENCE_RULES, FusionConfig, fuse
from smallobj.ensemble.calibration import cross_calibrated, fit_calibration
from smallobj.ensemble.calibration_curves import METHODS
from smallobj.ensemble.fusion import fuse_traced
from smallobj.ensemble.learnt_confidence import fit_confidence
from smallobj.evaluation import (
    EVERY_AREA,
    AreaRange,
    average_precision,
    bootstrap_scores,
    difference_of,
    match,
    prepare_truth,
)
from smallobj.evaluation.reliability import reliability
from smallobj.formats import split_folds

CAP, FOLDS = 1000, 5
SMALL = AreaRange("<32 px", 0.0, 32.0**2)
PARTS: tuple[tuple[str, ...], ...] = ((), ("size",))


def scores_of(truth: BoxTable, table: BoxTable) -> tuple[float, float, np.ndarray]:
    """map50 of all boxes and of those below 32 px, and the draws of a bootstrap of the first."""
    matches = match(
        prepare_truth(truth), table, [0.5], max_detections=CAP, areas=(EVERY_AREA, SMALL)
    )
    both = [float(average_precision(matches, area=area).average[0, 0]) for area in (0, 1)]
    return both[0], both[1], bootstrap_scores(matches, samples=200)[:, 0]


def variants(
    truth: BoxTable, tables: Sequence[BoxTable]
) -> Iterator[tuple[str, Sequence[BoxTable]]]:
    """The tables as they are, then calibrated out of fold in every way."""
    yield "as they are", tables
    fold = split_folds(truth, FOLDS, seed=0)
    for method in METHODS:
        for by in PARTS:
            name = " by ".join([method, *by])
            yield name, [cross_calibrated(truth, t, fold, method=method, by=by) for t in tables]


def learnt(
    truth: BoxTable, tables: Sequence[BoxTable], fold: np.ndarray, method: str, images: int | None
) -> BoxTable:
    """Every fold by calibrations and a confidence learnt on the others, or `images` of them."""
    config = FusionConfig(iou=0.55, skip=0.0, max_detections=None)
    by: tuple[str, ...] = ("size",) if method == "isotonic" else ()
    rng = np.random.default_rng(0)
    parts = []
    for number in range(FOLDS):
        fit = fold != number
        if images is not None:
            fit = np.isin(np.arange(len(fold)), rng.choice(np.flatnonzero(fit), images, False))
        runs = list(tables)
        if method != "none":
            runs = [
                fit_calibration(truth, t, method=method, by=by, images=fit).apply(t) for t in tables
            ]
        fused, trace = fuse_traced(runs, config)
        confidence = fit_confidence(truth, fused, trace, runs, images=fit)
        parts.append(
            confidence.apply(fused, trace, runs).take_images(np.flatnonzero(fold == number))
        )
    return _in_order(parts, fold)


def tell_learnt(
    truth: BoxTable, tables: Sequence[BoxTable], base: float, draws: np.ndarray
) -> None:
    """A row for each way to learn the confidence of fused boxes."""
    events = [image.split("/")[0] for image in truth.images.ids]
    folds = split_folds(truth, FOLDS, seed=0)
    by_event = split_folds(truth, FOLDS, seed=0, groups=events)
    print("\n| learnt from | map50 | gain (95 %), points | map50 below 32 px |")
    for name, fold, method, images in (
        ("scores as they are", folds, "none", None),
        ("platt", folds, "platt", None),
        ("isotonic by size", folds, "isotonic", None),
        ("platt, folds of whole events", by_event, "platt", None),
        ("platt, 300 images", folds, "platt", 300),
        ("platt, 100 images", folds, "platt", 100),
        ("platt, 30 images", folds, "platt", 30),
    ):
        score, small, drawn = scores_of(truth, learnt(truth, tables, fold, method, images))
        print(f"| {name} | {score:.4f} | {_gain(drawn, draws, score - base)} | {small:.4f} |")


def _in_order(parts: Sequence[BoxTable], fold: np.ndarray) -> BoxTable:
    """The tables of fold 0, 1, … as one, its images in the order of `fold`."""
    return concatenate(parts).take_images(np.argsort(np.argsort(fold, kind="stable")))


def _gain(draws: np.ndarray, base_draws: np.ndarray, difference: float) -> str:
    gain = 100 * np.array(difference_of(draws, base_draws, difference))
    return f"{gain[0]:+.2f} ({gain[1]:+.2f} to {gain[2]:+.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rules", action="store_true")
    parser.add_argument("--learnt", action="store_true")
    options = parser.parse_args()
    truth, tables = read_wider(options.folder)
    print(f"| scores | {' | '.join(f'ECE {name}' for name in DETECTORS)} |")
    made = list(variants(truth, tables))
    for name, runs in made:
        errors = [reliability(truth, run) for run in runs]
        told = " | ".join(f"{found.error:.4f} ({found.log_loss:.4f})" for found in errors)
        print(f"| {name} | {told} |")
    print("\n| scores | rule | map50 | gain (95 %), points | map50 below 32 px |")
    base: tuple[float, float, np.ndarray] | None = None
    for detector, run in zip(DETECTORS, tables, strict=True):
        score, small, _ = scores_of(truth, run)
        print(f"| {detector} alone | - | {score:.4f} | | {small:.4f} |")
    default = FusionConfig().conf_type  # comes first: its scores as they are give the base
    others = [rule for rule in CONFIDENCE_RULES if rule != default]
    for rule in [default, *others] if options.rules else [default]:
        config = FusionConfig(iou=0.55, skip=0.0, conf_type=rule, max_detections=CAP)
        for name, runs in made:
            score, small, draws = scores_of(truth, fuse(runs, config))
            base = base or (score, small, draws)
            told = _gain(draws, base[2], score - base[0])
            print(f"| {name} | {rule} | {score:.4f} | {told} | {small:.4f} |", flush=True)
    if options.learnt:
        assert base is not None
        tell_learnt(truth, tables, base[0], base[2])


if __name__ == "__main__":
    main()
