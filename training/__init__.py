"""Training a detector: the loop, its settings, its files, and how it goes on after a stop."""

from smallobj.training.averaging import DEFAULT_BATCHES, Averaged, average_runs
from smallobj.training.config import TrainConfig, detector_settings, parse_duration
from smallobj.training.presets import PRESETS, Preset, with_preset
from smallobj.training.reporting import PlainReporter, Reporter, duration, stderr_reporter
from smallobj.training.stop import Interrupted
from smallobj.training.train import TrainResult, resume, train

__all__ = [
    "DEFAULT_BATCHES",
    "PRESETS",
    "Averaged",
    "Interrupted",
    "PlainReporter",
    "Preset",
    "Reporter",
    "TrainConfig",
    "TrainResult",
    "average_runs",
    "detector_settings",
    "duration",
    "parse_duration",
    "resume",
    "stderr_reporter",
    "train",
    "with_preset",
]
