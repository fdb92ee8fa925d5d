"""Labels and runs in and out: challenge JSON, COCO, YOLO, Pascal VOC, Open Images, Parquet."""

from smallobj.formats.align import Aligned, align_runs, in_pixels
from smallobj.formats.check import Checked, check_labels
from smallobj.formats.faults import Fault
from smallobj.formats.image_files import list_images, upright_size
from smallobj.formats.image_ids import match_ids, natural_key, normal_id
from smallobj.formats.labels import FORMATS, Labels, read_labels, write_labels
from smallobj.formats.raw_run import UNITS, RawRun, RunOutput, RunRequest, Unit
from smallobj.formats.repairs import Repairs
from smallobj.formats.run_classes import read_run_classes
from smallobj.formats.run_costs import RunCost, cost_of, sum_costs
from smallobj.formats.run_formats import RUN_FORMATS, RunFormat
from smallobj.formats.run_info import RunInfo, read_run_info, write_run_info
from smallobj.formats.run_join import join_runs
from smallobj.formats.run_summary import RunSummary, summarise
from smallobj.formats.runs import RUN_KINDS, Run, is_run, read_run, read_runs, write_run
from smallobj.formats.splits import draw_share, split_folds
from smallobj.formats.statistics import Statistics, describe

__all__ = [
    "FORMATS",
    "RUN_FORMATS",
    "RUN_KINDS",
    "UNITS",
    "Aligned",
    "Checked",
    "Fault",
    "Labels",
    "RawRun",
    "Repairs",
    "Run",
    "RunCost",
    "RunFormat",
    "RunInfo",
    "RunOutput",
    "RunRequest",
    "RunSummary",
    "Statistics",
    "Unit",
    "align_runs",
    "check_labels",
    "cost_of",
    "describe",
    "draw_share",
    "in_pixels",
    "is_run",
    "join_runs",
    "list_images",
    "match_ids",
    "natural_key",
    "normal_id",
    "read_labels",
    "read_run",
    "read_run_classes",
    "read_run_info",
    "read_runs",
    "split_folds",
    "sum_costs",
    "summarise",
    "upright_size",
    "write_labels",
    "write_run",
    "write_run_info",
]
