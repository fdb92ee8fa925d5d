"""From a detector to its manifest's fields, and from a run's folder back to the detector."""

from pathlib import Path
from typing import Any

import torch

from smallobj.boxes import InputError
from smallobj.detectors.base import Detector
from smallobj.detectors.registry import construct, detector_class
from smallobj.weights.checkpoint import apply_state, load_weights
from smallobj.weights.manifest import MANIFEST, Manifest, run_folder

_KEPT_APART = ("num_classes", "backbone", "mean", "std")  # the manifest's own fields


def describe(detector: Detector) -> dict[str, Any]:
    """The manifest's fields that the detector knows: arch, backbone, mean, std, config.

    `Manifest(**describe(detector), classes=..., ...)`.
    """
    config = detector.config.as_dict()
    return {
        "arch": detector.name,
        "backbone": detector.config.backbone,
        "mean": detector.config.mean,
        "std": detector.config.std,
        "config": {name: v for name, v in config.items() if name not in _KEPT_APART},
    }


def load_detector(
    path: str | Path, device: str | torch.device = "cpu"
) -> tuple[Detector, Manifest]:
    """The detector of a run, with its weights, in evaluation mode on `device`.

    `path` is the run's folder or its weights.safetensors. Raises InputError in one line where the
    files are missing, damaged, or do not fit each other. The global random state is left alone.
    """
    folder = run_folder(path)
    state, manifest = load_weights(folder)
    try:
        detector = detector_of(manifest)
    except InputError as error:
        raise InputError(
            error.reason, file=folder / MANIFEST, field=error.field, value=error.value
        ) from error
    apply_state(detector, state, file=folder)
    return detector.eval().to(device), manifest


def detector_of(manifest: Manifest) -> Detector:
    """The detector that a manifest describes, with random weights, in training mode.

    Raises InputError where it describes none. The global random state is left alone.
    """
    kind = detector_class(manifest.arch)
    config = kind.Config.from_dict(
        {
            **manifest.config,
            "num_classes": len(manifest.classes),
            "backbone": manifest.backbone,
            "mean": manifest.mean,
            "std": manifest.std,
        }
    )
    with torch.random.fork_rng(devices=[]):
        return construct(kind, config)
