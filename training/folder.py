"""A run's folder: `runs/NAME/`, and the files beside it that carry its name."""

import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

from smallobj.boxes import InputError, check_writable, read_toml
from smallobj.training.config import FREE_ON_RESUME, TrainConfig, write_config
from smallobj.weights.manifest import MANIFEST, WEIGHTS

CONFIG = "config.toml"
LOG = "log.jsonl"
CHECKPOINTS = "checkpoints"


class RunFolder:
    """Where the files of a run lie."""

    def __init__(self, out: Path) -> None:
        self.path = out
        self.config, self.log = out / CONFIG, out / LOG
        self.resume = out / "resume"
        self.images = self.resume / "images.json"  # what a look at every image came to
        self.skipped = out / "skipped.tsv"  # images that cannot be read
        self.checkpoints = out / CHECKPOINTS
        self.run = out.parent / f"{out.name}.json"  # predictions on what was held out
        self.run_info = out.parent / f"{out.name}.run.toml"

    def check_free(self, *, overwrite: bool) -> None:
        """Raise InputError where the folder holds a run already, or could not be written."""
        if self.path.is_file():
            raise InputError("cannot be a run's folder: is a file", file=self.path)
        taken = self._taken()
        if taken and not overwrite:
            raise InputError(
                f"holds a trained model already ({taken[0].name}); --resume goes on with it, "
                "--overwrite begins anew",
                file=self.path,
            )
        check_writable(self.config)
        check_writable(self.run)

    def start_new(self, config: TrainConfig) -> None:
        """Make the folder of a new run in place of the run that was there."""
        self.clear()
        write_config(self.config, config)

    def forget(self) -> None:
        """Remove what a run left that learnt nothing, and its folder if that is all in it."""
        self.clear()
        self.skipped.unlink(missing_ok=True)
        if not any(self.path.iterdir()):
            self.path.rmdir()

    def clear(self) -> None:
        """Remove the files of a run."""
        for path in self._taken():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _taken(self) -> list[Path]:
        ours = [self.path / name for name in (WEIGHTS, MANIFEST, CONFIG, LOG)]
        places = (*ours, self.resume, self.checkpoints, self.run, self.run_info)
        return [path for path in places if path.exists()]

    def stored_config(self, given: dict[str, Any]) -> TrainConfig:
        """The settings the run was started with; raises InputError where `given` differ.

        given: plain values as config.toml has them, those that the user named alone. What has no
        influence on the weights may differ (FREE_ON_RESUME).
        """
        if not self.config.exists():
            raise InputError("there is no run to resume: config.toml is missing", file=self.path)
        stored = read_toml(self.config)
        free = {name: given.pop(name) for name in FREE_ON_RESUME if name in given}
        merged = {**stored, **free}
        try:
            config = TrainConfig.from_dict(merged)
            nested = {
                name: {**merged.get(name, {}), **given.get(name, {})}
                for name in ("crops", "detector")
            }
            wanted = TrainConfig.from_dict({**merged, **given, **nested})
        except InputError as error:
            raise InputError(
                error.reason, file=self.config, field=error.field, value=error.value
            ) from error
        _check_same(config, wanted, self.config)
        return config


def _check_same(stored: Any, wanted: Any, file: Path) -> None:
    for f in fields(stored):
        was, now = getattr(stored, f.name), getattr(wanted, f.name)
        if f.name == "crops":
            _check_same(was, now, file)
        elif was != now:
            raise InputError(
                f"cannot change when a run is resumed; it was {was}",
                file=file,
                field=f.name,
                value=now,
            )
