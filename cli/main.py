"""The `smallobj` command: one file a command, which imports its rooms when it is called."""

import os
import sys

import typer

from smallobj.cli.compare import compare
from smallobj.cli.data import data_app
from smallobj.cli.demo import demo
from smallobj.cli.detectors import detectors
from smallobj.cli.evaluate import evaluate
from smallobj.cli.fuse import fuse
from smallobj.cli.predict import predict
from smallobj.cli.profile import profile
from smallobj.cli.runs import runs_app
from smallobj.cli.show import show
from smallobj.cli.train import train
from smallobj.cli.tune import tune
from smallobj.cli.views import views_app
from smallobj.cli.weights import weights_app

app = typer.Typer(
    name="smallobj",
    help="Find small objects in large photographs: train detectors, predict, tune, fuse, evaluate.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

app.command()(demo)
app.add_typer(data_app, name="data")
app.add_typer(runs_app, name="runs")
app.add_typer(views_app, name="views")
app.add_typer(weights_app, name="weights")
app.command()(detectors)
app.command()(train)
app.command()(predict)
app.command()(tune)
app.command()(fuse)
app.command()(evaluate)
app.command()(compare)
app.command()(show)
app.command()(profile)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; ends with status 2 and one line where the input is at fault."""
    # Read when torch is loaded. Its threads spin for milliseconds before they sleep: on a busy
    # machine that halves the speed of training, on a quiet one short spinning costs nothing.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        app(arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        from smallobj.boxes import InputError  # numpy would double the time of --help

        if not isinstance(error, InputError):
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
