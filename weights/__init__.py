"""Trained models as files: the manifest, free of torch, is exported here.

What needs torch is imported from `smallobj.weights.checkpoint`.
"""

from smallobj.weights.manifest import Manifest, read_manifest, run_folder, write_manifest

__all__ = ["Manifest", "read_manifest", "run_folder", "write_manifest"]
