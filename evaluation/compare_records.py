"""A comparison as plain values for JSON, and its true boxes as rows of a CSV file."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from math import isfinite, isnan
from typing import Any

import numpy as np

from smallobj.boxes import Array
from smallobj.evaluation.compare import ComparedPair, ComparedRun, Comparison, FoundBy
from smallobj.evaluation.diversity import Overlap
from smallobj.evaluation.found import WorkingPoint
from smallobj.evaluation.precision import STEPS_50_95
from smallobj.evaluation.scores import without_nan


def comparison_record(comparison: Comparison, names: Sequence[str]) -> dict[str, Any]:
    """Plain values for JSON, runs by their names; what is not known becomes None."""
    best = comparison.best_pair()
    record = {
        "against": names[comparison.against],
        "fairness": comparison.fairness,
        "runs": [
            {"name": name, **_run_record(run)}
            for name, run in zip(names, comparison.runs, strict=True)
        ],
        "pairs": [_pair_record(pair, names) for pair in comparison.pairs],
        "found_by": {
            "any_score": [_found_by_record(one, names) for one in comparison.any_score],
            "at": [_found_by_record(one, names) for one in comparison.at],
        },
        "best_pair": [names[best.first], names[best.second]],
        "best_alone": names[comparison.best_alone()],
    }
    return without_nan(record)


def objects_csv(comparison: Comparison, names: Sequence[str]) -> str:
    """One row a true box that is to be found: image, class, box, and what each run made of it.

    A run's column holds "found", "low" (found, with a score below the working point) or "missed",
    its next two the score and the IoU of the box that found it.
    """
    truth, runs = comparison.truth, comparison.runs
    at = [run.found.found_at(run.at.threshold) for run in runs]
    columns: list[list[Any]] = [
        [truth.images.ids[i] for i in truth.image],
        [truth.classes.names[c] for c in truth.label],
        *(truth.xyxy[:, side].tolist() for side in range(4)),
        np.sum(at, axis=0).tolist(),
    ]
    header = ["image", "class", "x1", "y1", "x2", "y2", "found by"]
    for name, run, found_at in zip(names, runs, at, strict=True):
        header += [name, f"{name} score", f"{name} iou"]
        missed = np.where(run.found.found, "low", "missed")
        columns.append(np.where(found_at, "found", missed).tolist())
        columns.append(_cells(run.found.score))
        columns.append(_cells(run.found.iou.round(4)))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    rows = zip(comparison.to_find.tolist(), zip(*columns, strict=True), strict=True)
    writer.writerows(row for wanted, row in rows if wanted)
    return text.getvalue()


def _cells(values: Array) -> list[float | str]:
    """Values of a column, empty where there is none."""
    return ["" if isnan(value) else value for value in values.tolist()]


def _run_record(run: ComparedRun) -> dict[str, Any]:
    steps = [f"{step:.2f}" for step in STEPS_50_95]
    return {
        **asdict(run.evaluation),
        "map_by_iou": dict(zip(steps, run.by_iou.tolist(), strict=True)),
        "intervals": {name: one._asdict() for name, one in run.intervals.items()},
        "best_f1": _point_record(run.best_f1),
        "at": _point_record(run.at),
        "found_with_any_score": int(run.found.found.sum()),
    }


def _point_record(point: WorkingPoint) -> dict[str, Any]:
    return {
        **asdict(point),
        "threshold": point.threshold if isfinite(point.threshold) else None,
        "precision": point.precision,
        "recall": point.recall,
        "f1": point.f1,
    }


def _pair_record(pair: ComparedPair, names: Sequence[str]) -> dict[str, Any]:
    return {
        "first": names[pair.first],
        "second": names[pair.second],
        "second_above_first": {name: one._asdict() for name, one in pair.above.items()},
        "any_score": _overlap_record(pair.any_score),
        "at": _overlap_record(pair.at),
        "at_by_size": {size: _overlap_record(one) for size, one in pair.at_by_size.items()},
        "score_correlation": pair.score_correlation,
        "alarms_of_first_shared": pair.alarms_of_first,
        "alarms_of_second_shared": pair.alarms_of_second,
    }


def _overlap_record(overlap: Overlap) -> dict[str, Any]:
    measures = ("jaccard", "phi", "yule_q", "together", "gain")
    return {**asdict(overlap), **{name: getattr(overlap, name) for name in measures}}


def _found_by_record(one: FoundBy, names: Sequence[str]) -> dict[str, Any]:
    return {**asdict(one), "only": dict(zip(names, one.only, strict=True))}
