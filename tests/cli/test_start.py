"""What starting costs: each command loads what it needs, and help loads none of it."""

import subprocess
import sys

import pytest

from smallobj.cli.main import app

HEAVY = ("numpy", "torch", "numba", "PIL", "matplotlib", "msgspec", "pyarrow", "onnx")
COMMANDS = [
    [],
    ["train"],
    ["predict"],
    ["fuse"],
    ["tune"],
    ["evaluate"],
    ["show"],
    ["profile"],
    ["demo"],
    ["data"],
    ["runs"],
    ["views"],
    ["views", "search"],
    ["weights"],
    ["weights", "export"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command) or "smallobj")
def test_help_imports_nothing_heavy(command: list[str]) -> None:
    code = (
        "import sys\nfrom smallobj.cli.main import main\n"
        f"try: main({[*command, '--help']})\n"
        f"except SystemExit as end: print(end.code, *(set({HEAVY}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0"


def test_every_command_says_what_it_does_with_an_example() -> None:
    groups = [app, *(group.typer_instance for group in app.registered_groups)]
    commands = [command.callback for group in groups for command in group.registered_commands]
    assert len(commands) > 8
    for command in commands:
        assert command is not None
        assert command.__doc__ is not None
        assert "Example: smallobj " in command.__doc__, command.__name__
