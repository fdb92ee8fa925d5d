"""Matching of predictions with truth, average precision, and how sure a score is. No torch."""

from smallobj.evaluation.bootstrap import (
    Difference,
    Interval,
    bootstrap_interval,
    bootstrap_scores,
    difference_of,
    interval_of,
    paired_bootstrap,
)
from smallobj.evaluation.coco import COCO_NUMBERS, coco_summary
from smallobj.evaluation.comparison import RunScore, score_runs
from smallobj.evaluation.matching import (
    EVERY_AREA,
    AreaRange,
    Matches,
    PreparedTruth,
    match,
    prepare_truth,
)
from smallobj.evaluation.precision import (
    AP_CHOICES,
    METRICS,
    Interpolation,
    Precision,
    average_precision,
    class_mean,
    map_score,
    mean_precision,
    mean_precisions,
    steps_of,
    thresholds_of,
)
from smallobj.evaluation.scores import (
    SIZE_BINS,
    Evaluation,
    Score,
    evaluate,
    evaluate_matches,
    match_by_size,
)

__all__ = [
    "AP_CHOICES",
    "COCO_NUMBERS",
    "EVERY_AREA",
    "METRICS",
    "SIZE_BINS",
    "AreaRange",
    "Difference",
    "Evaluation",
    "Interpolation",
    "Interval",
    "Matches",
    "Precision",
    "PreparedTruth",
    "RunScore",
    "Score",
    "average_precision",
    "bootstrap_interval",
    "bootstrap_scores",
    "class_mean",
    "coco_summary",
    "difference_of",
    "evaluate",
    "evaluate_matches",
    "interval_of",
    "map_score",
    "match",
    "match_by_size",
    "mean_precision",
    "mean_precisions",
    "paired_bootstrap",
    "prepare_truth",
    "score_runs",
    "steps_of",
    "thresholds_of",
]
