"""What a person sees: names with brackets survive, time left is readable."""

import io

import pytest
from rich.console import Console
from rich.progress import Progress as Bar

from smallobj.training.length import Length
from smallobj.training.reporting import PlainReporter, RichReporter, duration, stderr_reporter
from smallobj.training.snapshot import Progress


def test_the_bar_shows_loss_metric_and_time_left() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None)
    length = Length(steps=50, validate_every=10)
    progress = Progress(step=20, best_step=10, best_score=0.25, length=length)
    with Bar("{task.fields[status]}", console=console, auto_refresh=False) as bar:
        reporter = RichReporter(bar)
        reporter.note("img[/red].jpg [bold]")
        reporter.step(progress, 1.5, 125)
        bar.refresh()
        reporter.checking(30, 479, 65)
        bar.refresh()
        reporter.validating(3, 9)
        bar.refresh()
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "img[/red].jpg [bold]" in shown
    assert "step 20 of 50 | loss 1.500 | best 0.250 at 10 | 2 min 05 s left" in shown
    assert "looks at the images: 30 of 479 | 1 min 05 s left" in shown
    assert "validating 3 of 9" in shown


def test_without_a_terminal_there_are_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with stderr_reporter() as reporter:
        assert isinstance(reporter, PlainReporter)
        reporter.note("[a]")
        reporter.step(Progress(), 1.0, None)
    assert capsys.readouterr().err == "[a]\n"


def test_durations_are_readable() -> None:
    assert [duration(s) for s in (0.4, 59.4, 60, 3599, 7500)] == [
        "0 s",
        "59 s",
        "1 min 00 s",
        "59 min 59 s",
        "2 h 05 min",
    ]
