"""Runs smallobj's commands for the other benchmarks."""

import subprocess
import sys
from pathlib import Path


def smallobj(*words: object) -> None:
    """Run a command of this environment's smallobj; what it prints goes to standard error."""
    command = [str(Path(sys.executable).with_name("smallobj")), *map(str, words)]
    print("+ smallobj", *command[1:], file=sys.stderr, flush=True)
    subprocess.run(command, check=True, stdout=sys.stderr)
