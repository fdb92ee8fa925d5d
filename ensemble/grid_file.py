"""All that tuning tried, as a CSV file for people and spreadsheets."""

import csv
from io import StringIO
from pathlib import Path

import numpy as np

from smallobj.boxes import write_text
from smallobj.ensemble.tuning import Tuning


def grid_path(recipe: Path) -> Path:
    """`recipe.toml` to `recipe.grid.csv`."""
    return recipe.with_name(recipe.stem + ".grid.csv")


def write_grid(path: Path, tuning: Tuning) -> None:
    """Write a row a setting, the best on all images first, with its score on every fold."""
    folds = tuning.held_out.shape[1]
    stream = StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        [
            *("what", "iou", "skip", "conf_type"),
            *(f"weight {model}" for model in tuning.models),
            *(tuning.metric, "mean over folds"),
            *(f"fold {fold}" for fold in range(folds)),
        ]
    )
    for setting in best_settings(tuning):
        config = tuning.settings[setting]
        scores = (tuning.scores[setting], tuning.fold_mean(setting), *tuning.held_out[setting])
        writer.writerow(
            [setting_name(tuning, setting), config.iou, config.skip, config.conf_type]
            + [f"{weight:g}" for weight in config.weights_of(len(tuning.models))]
            + ["" if np.isnan(score) else f"{score:.6f}" for score in scores]
        )
    write_text(path, stream.getvalue())


def best_settings(tuning: Tuning) -> list[int]:
    """All settings by falling score on all images; of equal ones the simplest first."""
    return np.argsort(-tuning.scores, kind="stable").tolist()


def setting_name(tuning: Tuning, setting: int) -> str:
    """What kind of setting it is: a run alone, the untuned default, or one of the grid."""
    if setting < tuning.untuned:
        return f"{tuning.models[setting]} alone"
    return "untuned default" if setting == tuning.untuned else "grid"
