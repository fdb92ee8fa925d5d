"""Fusion of several runs, suppression, and the tuning of fusion on labelled images. No torch."""

from smallobj.ensemble.config import CONFIDENCE_RULES, METHODS, SOFT_DECAYS, FusionConfig
from smallobj.ensemble.fusion import clip_scores, fuse
from smallobj.ensemble.greedy import ScoreMemo, greedy_weights
from smallobj.ensemble.grid import Grid, default_settings, default_weights
from smallobj.ensemble.grid_options import parse_grid
from smallobj.ensemble.grid_file import best_settings, grid_path, setting_name, write_grid
from smallobj.ensemble.limits import Costs, Limits, costs_of
from smallobj.ensemble.pareto import FrontRow, pareto_front
from smallobj.ensemble.recipe import Recipe, model_names
from smallobj.ensemble.recipe_file import read_recipe, write_recipe
from smallobj.ensemble.scoring import score_settings
from smallobj.ensemble.selection import (
    Selection,
    average_weights,
    bag_parts,
    leave_one_out,
    select_weights,
)
from smallobj.ensemble.suppression import nms
from smallobj.ensemble.tuning import Tuning, fold_mean, tune

__all__ = [
    "CONFIDENCE_RULES",
    "METHODS",
    "SOFT_DECAYS",
    "Costs",
    "FrontRow",
    "FusionConfig",
    "Grid",
    "Limits",
    "Recipe",
    "ScoreMemo",
    "Selection",
    "Tuning",
    "average_weights",
    "bag_parts",
    "best_settings",
    "clip_scores",
    "costs_of",
    "default_weights",
    "fold_mean",
    "fuse",
    "greedy_weights",
    "grid_path",
    "leave_one_out",
    "model_names",
    "nms",
    "pareto_front",
    "parse_grid",
    "read_recipe",
    "score_settings",
    "select_weights",
    "setting_name",
    "tune",
    "write_grid",
    "write_recipe",
]
