"""Fusion of several runs, suppression, and the tuning of fusion on labelled images. No torch."""

from smallobj.ensemble.candidates import CALIBRATION_CHOICES, Candidate
from smallobj.ensemble.config import CONFIDENCE_RULES, METHODS, SOFT_DECAYS, FusionConfig
from smallobj.ensemble.fusion import clip_scores, fuse, fuse_traced
from smallobj.ensemble.greedy import ScoreMemo, greedy_weights
from smallobj.ensemble.grid import Grid, default_settings, default_weights
from smallobj.ensemble.grid_file import best_settings, grid_path, setting_name, write_grid
from smallobj.ensemble.grid_options import parse_grid
from smallobj.ensemble.judge import fold_mean
from smallobj.ensemble.limits import Costs, Limits, costs_of
from smallobj.ensemble.pareto import FrontRow, pareto_front
from smallobj.ensemble.recipe import Recipe, model_names
from smallobj.ensemble.recipe_file import read_recipe, write_recipe
from smallobj.ensemble.score_store import ScoreStore, hash_inputs, part_path
from smallobj.ensemble.scoring import score_settings
from smallobj.ensemble.search import Search
from smallobj.ensemble.selection import (
    Selection,
    average_weights,
    bag_parts,
    leave_one_out,
    select_weights,
)
from smallobj.ensemble.suppression import nms
from smallobj.ensemble.trace import Trace
from smallobj.ensemble.tuning import Plan, tune
from smallobj.ensemble.tuning_result import Step, Tuning

__all__ = [
    "CALIBRATION_CHOICES",
    "CONFIDENCE_RULES",
    "METHODS",
    "SOFT_DECAYS",
    "Candidate",
    "Costs",
    "FrontRow",
    "FusionConfig",
    "Grid",
    "Limits",
    "Plan",
    "Recipe",
    "ScoreMemo",
    "ScoreStore",
    "Search",
    "Selection",
    "Step",
    "Trace",
    "Tuning",
    "average_weights",
    "bag_parts",
    "best_settings",
    "clip_scores",
    "costs_of",
    "default_settings",
    "default_weights",
    "fold_mean",
    "fuse",
    "fuse_traced",
    "greedy_weights",
    "grid_path",
    "hash_inputs",
    "leave_one_out",
    "model_names",
    "nms",
    "pareto_front",
    "parse_grid",
    "part_path",
    "read_recipe",
    "score_settings",
    "select_weights",
    "setting_name",
    "tune",
    "write_grid",
    "write_recipe",
]
