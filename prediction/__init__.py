"""The engine: images decoded, cut, batched, run and merged; runs that grow on disk."""

from smallobj.prediction.batching import out_of_memory
from smallobj.prediction.candidates import KeptViews, merge_kept
from smallobj.prediction.device import PRECISIONS, autocast, choose_device, choose_precision
from smallobj.prediction.engine import (
    CANDIDATES,
    KEEPS,
    MAX_BOXES,
    MERGE,
    NMS_IOU,
    PredictConfig,
    Seen,
    as_table,
    neutral_colour,
    predict,
    stream,
)
from smallobj.prediction.inputs import ImageFiles, Skipped, find_images, find_part
from smallobj.prediction.latency import threads_of
from smallobj.prediction.names import escaped, one_line, printable
from smallobj.prediction.opening import open_model
from smallobj.prediction.part import part_path
from smallobj.prediction.run import AUTO, Summary, check_out, predict_run, tta_spec, views_of
from smallobj.prediction.segment import ClassTile, class_tiles
from smallobj.prediction.view_files import FoundViews, ViewRequest, search_view_files
from smallobj.prediction.view_pool import plain_place, pool_spec, read_pool
from smallobj.prediction.view_recipe import ViewRecipe, read_view_recipe, write_view_recipe
from smallobj.prediction.view_result import ViewChoice, ViewSearch, ViewStep
from smallobj.prediction.view_search import ViewPlan, search_views
from smallobj.prediction.view_times import ViewCosts, time_views
from smallobj.prediction.writing import skipped_path, write_skipped

__all__ = [
    "AUTO",
    "CANDIDATES",
    "KEEPS",
    "MAX_BOXES",
    "MERGE",
    "NMS_IOU",
    "PRECISIONS",
    "ClassTile",
    "FoundViews",
    "ImageFiles",
    "KeptViews",
    "PredictConfig",
    "Seen",
    "Skipped",
    "Summary",
    "ViewChoice",
    "ViewCosts",
    "ViewPlan",
    "ViewRecipe",
    "ViewRequest",
    "ViewSearch",
    "ViewStep",
    "as_table",
    "autocast",
    "check_out",
    "choose_device",
    "choose_precision",
    "class_tiles",
    "escaped",
    "find_images",
    "find_part",
    "merge_kept",
    "neutral_colour",
    "one_line",
    "open_model",
    "out_of_memory",
    "part_path",
    "plain_place",
    "pool_spec",
    "predict",
    "predict_run",
    "printable",
    "read_pool",
    "read_view_recipe",
    "search_view_files",
    "search_views",
    "skipped_path",
    "stream",
    "threads_of",
    "time_views",
    "tta_spec",
    "views_of",
    "write_skipped",
    "write_view_recipe",
]
