"""A run that is killed, at whatever moment, ends with the weights of one that was not."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Fingerprint = Callable[[Path], tuple[str, str]]
SCRIPT = Path(__file__).with_name("killed_run.py")


MOMENTS = ("step:3", "saving", "validation:4", "manifest", "step:7", "best")


def start(out: Path, settings: dict[str, Any], *moments: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), str(out), json.dumps(settings), *moments]
    # On a busy machine two threads that wait actively for each other take ten times as long.
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
    )


def statuses(process: subprocess.Popen[str]) -> list[int]:
    """How each of the processes ended."""
    printed, told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    return json.loads(printed)


def test_a_run_killed_at_every_kind_of_moment_ends_with_the_same_weights(
    tmp_path: Path, quick: dict[str, Any], fingerprint: Fingerprint
) -> None:
    settings = {**quick, "threads": 2}
    assert statuses(start(tmp_path / "straight", settings, "never")) == [0]
    ended = statuses(start(tmp_path / "killed", settings, *MOMENTS, "never"))
    assert ended == [-signal.SIGKILL] * len(MOMENTS) + [0]
    assert fingerprint(tmp_path / "killed") == fingerprint(tmp_path / "straight")


@pytest.mark.slow
def test_a_run_killed_by_the_clock_ends_with_the_same_weights(
    tmp_path: Path, quick: dict[str, Any], fingerprint: Fingerprint
) -> None:
    settings = {**quick, "threads": 2, "steps": 150, "snapshot_s": 0.3}
    started = time.monotonic()
    assert statuses(start(tmp_path / "straight", settings, "never")) == [0]
    whole_s = time.monotonic() - started
    killed = 0
    for share in (0.5, 0.6, 0.7, 0.8, 0.9):
        process = start(tmp_path / "killed", settings, "never")
        time.sleep(share * whole_s)
        ended = process.poll() is not None
        if not ended:
            os.killpg(process.pid, signal.SIGKILL)
            killed += 1
        process.communicate()
        if ended:
            break
    assert killed > 0
    assert statuses(start(tmp_path / "killed", settings, "never")) == [0]
    assert fingerprint(tmp_path / "killed") == fingerprint(tmp_path / "straight")
