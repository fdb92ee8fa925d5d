"""The page on formats says what is so: its example of a new format works as printed."""

import re
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from smallobj.boxes import BoxTable, InputError
from smallobj.cli.label_options import Kind, RunKind
from smallobj.formats import FORMATS, RUN_KINDS, check_labels, read_labels, write_labels
from smallobj.formats.labels import Format

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"


@pytest.fixture
def csv_kind(monkeypatch: pytest.MonkeyPatch) -> str:
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert code is not None
    module = types.ModuleType("boxes_csv")
    monkeypatch.setitem(sys.modules, "boxes_csv", module)
    exec(code[1], module.__dict__)
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


def test_the_command_line_knows_every_format() -> None:
    assert [kind.value for kind in Kind] == list(FORMATS)
    assert [kind.value for kind in RunKind] == list(RUN_KINDS)


def test_the_page_names_every_format() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert all(f"| `{kind}` |" in page for kind in FORMATS)
