"""The page on formats says what is so: its example of a new format works as printed."""

import re
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from smallobj.boxes import BoxTable, InputError
from smallobj.cli.label_options import AnyKind, Kind, RunKind
from smallobj.formats import (
    FORMATS,
    RUN_FORMATS,
    RUN_KINDS,
    RunInfo,
    check_labels,
    read_labels,
    read_run,
    write_labels,
    write_run,
)
from smallobj.formats.labels import Format
from smallobj.formats.run_formats import format_of

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"


def example(number: int, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The module that the page prints, by its place on the page."""
    codes = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    module = types.ModuleType(f"example_{number}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(codes[number], module.__dict__)
    return module


@pytest.fixture
def csv_kind(monkeypatch: pytest.MonkeyPatch) -> str:
    module = example(0, monkeypatch)
    form = Format(module.LOOKED_FOR, module.find, module.read, module.write)
    monkeypatch.setitem(FORMATS, "csv", form)
    return "csv"


def test_the_format_of_the_page_works(
    csv_kind: str,
    tmp_path: Path,
    table_of: Callable[..., BoxTable],
    photo: Callable[..., Path],
) -> None:
    table = table_of({"2.png": [(1, 0.1, 1, 9, 9), (0, 2, 2, 5, 5)], "10.png": []}, ["a", "b"])
    for image_id in table.images.ids:
        photo(tmp_path / "images" / image_id)
    write_labels(table, tmp_path / "labels.csv", csv_kind)
    labels = read_labels(tmp_path / "labels.csv")
    assert labels.kind == "csv"
    assert labels.table == table
    write_labels(labels.table, tmp_path / "coco.json", "coco")
    assert np.array_equal(read_labels(tmp_path / "coco.json").table.xyxy, table.xyxy)


def test_the_format_of_the_page_tells_its_faults(csv_kind: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("photo,thing,x1_px,y1_px,x2_px,y2_px\na.png,car,1,nan,5,5\na.png,car,5,1,1,5\n")
    with pytest.raises(
        InputError, match=r"item a\.png: field line 2 y1_px: is not a finite number"
    ):
        read_labels(path)
    kinds = [fault.kind for fault in check_labels(path).faults]
    assert kinds == ["not a number", "swapped corners", "no image folder"]


def test_the_run_format_of_the_page_works(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, table_of: Callable[..., BoxTable]
) -> None:
    monkeypatch.setitem(RUN_FORMATS, "lines", format_of(example(1, monkeypatch)))
    table = table_of({"2.png": [(1, 0.1, 1, 9, 9, 0.25), (0, 2, 2, 5, 5, 1)]})
    info = RunInfo(model="m", classes=table.classes)
    write_run(tmp_path / "a.lines", table, info, kind="lines")
    run = read_run(tmp_path / "a.lines")
    assert (run.kind, run.info) == ("lines", info)
    assert np.array_equal(run.table.xyxy, table.xyxy)
    assert np.array_equal(run.table.label, table.label)
    (tmp_path / "a.lines").write_text("2.png 0 0.5 1 1 nan 5\n")
    with pytest.raises(InputError, match=r"item 2.png: field line 1 x2: is not a finite"):
        read_run(tmp_path / "a.lines")


def test_the_command_line_knows_every_format() -> None:
    assert [kind.value for kind in Kind] == list(FORMATS)
    assert [kind.value for kind in RunKind] == list(RUN_KINDS)
    assert {kind.value for kind in AnyKind} == {*FORMATS, *RUN_KINDS}


def test_the_page_names_every_format() -> None:
    page = PAGE.read_text(encoding="utf-8")
    labels, runs = page.split("## Runs")
    assert all(f"| `{kind}` |" in labels for kind in FORMATS)
    assert all(f"| `{kind}` |" in runs for kind in RUN_KINDS)
