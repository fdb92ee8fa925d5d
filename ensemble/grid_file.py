"""All settings that tuning tried, as a Parquet file for notebooks and later tools."""

from pathlib import Path
from typing import Any

import numpy as np

from smallobj.boxes import whole_file
from smallobj.ensemble.tuning_result import Tuning

_SETTINGS = ("method", "iou", "skip", "conf_type", "shift_px", "min_votes", "soft", "sigma")


def grid_path(recipe: Path) -> Path:
    """`recipe.toml` to `recipe.grid.parquet`."""
    return recipe.with_name(recipe.stem + ".grid.parquet")


def write_grid(path: Path, tuning: Tuning) -> None:
    """Write a row a setting, the best on all images first, with its score on every fold.

    `fold k` is the score on the images of fold k, `others k` that on the images of all others. The
    settings are those tried on scores as they are; the schema's metadata name the metric.
    """
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    order = best_settings(tuning)
    configs = [tuning.settings[setting] for setting in order]
    runs = len(tuning.models)
    columns: dict[str, Any] = {"what": [setting_name(tuning, setting) for setting in order]}
    columns |= {name: [getattr(config, name) for config in configs] for name in _SETTINGS}
    weights = np.array([config.weights_of(runs) for config in configs], np.float64)
    inside = np.array([config.nms_iou_of(runs) for config in configs], np.float64)
    for run, model in enumerate(tuning.models):
        columns[f"weight {model}"] = weights[:, run]
        columns[f"nms {model}"] = inside[:, run]
    columns["all images"] = tuning.scores[order]
    columns["mean over folds"] = [tuning.fold_mean(setting) for setting in order]
    for fold in range(tuning.held_out.shape[1]):
        columns[f"fold {fold}"] = tuning.held_out[order, fold]
        columns[f"others {fold}"] = tuning.others[order, fold]
    table = pa.table(columns).replace_schema_metadata({"metric": tuning.metric})
    with whole_file(path) as temporary:
        pq.write_table(table, temporary)


def best_settings(tuning: Tuning) -> list[int]:
    """All settings by falling score on all images; of equal ones the simplest first."""
    return np.argsort(-tuning.scores, kind="stable").tolist()


def setting_name(tuning: Tuning, setting: int) -> str:
    """What kind of setting it is: a run alone, the untuned default, or one that was tried."""
    runs = len(tuning.models)
    if setting < runs:
        return f"{tuning.models[setting]} alone"
    return "untuned default" if setting == runs else "tried"
