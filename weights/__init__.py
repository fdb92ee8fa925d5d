"""Trained models as files: the manifest, free of torch, is exported here.

What needs torch is imported from `smallobj.weights.checkpoint`.
"""

from smallobj.weights.manifest import (
    DTYPES,
    FULL,
    Manifest,
    read_manifest,
    run_folder,
    write_manifest,
)

__all__ = ["DTYPES", "FULL", "Manifest", "read_manifest", "run_folder", "write_manifest"]
