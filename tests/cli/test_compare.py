"""`smallobj compare` from the shell's side: what it prints, writes and refuses."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from smallobj.cli.main import main

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "compare.md").read_text()

TRUTH = {
    "a.jpg": [[0, 10, 10, 20, 20], [1, 50, 50, 90, 90]],
    "b[bold].jpg": [[0, 5, 5, 12, 12], [0, 60, 60, 30, 30]],
}
FIRST = {
    "a.jpg": [[0, 10, 10, 20, 20, 0.9], [1, 50, 50, 90, 90, 0.8]],
    "b[bold].jpg": [[0, 5, 5, 12, 12, 0.7], [0, 200, 200, 9, 9, 0.75]],
}
SECOND = {
    "a.jpg": [[0, 10, 10, 20, 20, 0.6], [0, 300, 300, 20, 20, 0.55]],
    "b[bold].jpg": [[0, 60, 60, 30, 30, 0.5], [0, 200, 200, 9, 9, 0.1]],
}


@pytest.fixture
def files(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    contents = {"truth": TRUTH, "one[bold]": FIRST, "two": SECOND, "more/two": SECOND}
    (tmp_path / "more").mkdir()
    for name, content in contents.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return tmp_path


def compare(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(["compare", "--labels", "truth.json", "--bootstrap", "20", *arguments])
    assert end.value.code == 0
    return capsys.readouterr().out


def refused(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(["compare", *arguments, "--labels", "truth.json"])
    assert end.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    return output.err


def rows_of(shown: str, start: str) -> list[list[str]]:
    return [line.split() for line in shown.splitlines() if line.strip().startswith(start)]


def test_runs_stand_side_by_side_with_the_best_marked(files, capsys):
    shown = compare(capsys, "one[bold].json", "two.json")
    assert "4 true boxes in 2 images; * the best" in shown
    (row,) = rows_of(shown, "map50 ")
    # class 0: hits at 1 and 3 of three; class 1: all; of the second 1 and 3 of 3, class 1: none
    assert row[1] == "0.7778*"
    assert row[-4] == "0.2778"
    assert "one[bold] map50" in shown
    assert "found by all" in shown
    assert "map at IoU 0.95" in shown
    assert rows_of(shown, "one[bold], two")[0][2:6] == ["1", "2", "1", "0"]
    assert (
        "Together one[bold] and two find most: 4 of 4 true boxes, 1 more (+25.0 points of recall)"
        " than one[bold], the best alone." in shown
    )


def test_files_hold_every_number_and_every_true_box(files, capsys):
    compare(
        *(capsys, "one[bold].json", "two.json", "--against", "two", "--at", "f1"),
        *("--json", "out/compared.json", "--objects", "out/objects.csv"),
    )
    written = json.loads((files / "out" / "compared.json").read_text())
    assert (written["against"], written["fairness"], written["bootstrap"]) == ("two", "f1", 20)
    assert [run["at"]["found"] for run in written["runs"]] == [3, 2]
    assert [run["at"]["false_alarms"] for run in written["runs"]] == [1, 1]
    pair = written["pairs"][0]
    assert (pair["at"]["both"], pair["at"]["jaccard"]) == (1, 0.25)
    assert pair["second_above_first"]["map50"]["mean"] == pytest.approx(-0.5)
    with (files / "out" / "objects.csv").open() as stream:
        rows = {(row["image"], row["x1"]): row for row in csv.DictReader(stream)}
    assert len(rows) == 4
    missed = rows["a.jpg", "50.0"]
    assert (missed["class"], missed["found by"], missed["two"]) == ("1", "1", "missed")
    assert rows["b[bold].jpg", "60.0"]["two score"] == "0.5"
    assert rows["b[bold].jpg", "60.0"]["two iou"] == "1.0"


def test_runs_of_one_name_are_called_by_their_paths(files, capsys):
    shown = compare(capsys, "two.json", "more/two.json", "--against", "more/two.json")
    assert "No two runs find more together than two.json finds alone." in shown
    assert "more/two.json at its best F1" in shown
    error = refused(capsys, "two.json", "more/two.json", "--against", "two")
    assert "several runs have this name; give the path: two.json, more/two.json" in error


def test_no_intervals_are_shown_where_none_are_drawn(files, capsys):
    shown = compare(capsys, "one[bold].json", "two.json", "--bootstrap", "0")
    assert "95 %" not in shown
    assert "map50" in shown


def test_what_cannot_be_compared_is_refused_in_one_line(files, capsys):
    pair = ("one[bold].json", "two.json")
    assert "scored by smallobj evaluate" in refused(capsys, "two.json")
    assert "no runs given" in refused(capsys)
    assert "given twice" in refused(capsys, "two.json", "two.json")
    assert "no such run; known: one[bold], two" in refused(capsys, *pair, "--against", "three")
    assert "alarms, f1" in refused(capsys, *pair, "--at", "recall")
    assert "map50, map75, map50_95" in refused(capsys, *pair, "--metric", "map")
    assert "cannot be written" in refused(capsys, *pair, "--objects", str(files))
    same = ("--json", "out.json", "--objects", "./out.json")
    assert "written twice" in refused(capsys, *pair, *same)
    (files / "wrong.json").write_text('{"a.jpg": [[0, 1, 1, 5, 5, 1.5]]}')
    assert "1.5" in refused(capsys, "two.json", "wrong.json", "--json", "out.json")
    assert not (files / "out.json").exists()


def test_compare_does_not_load_torch(files):
    code = """
import sys
from smallobj.cli.main import main
try:
    main(["compare", "two.json", "one[bold].json", "--labels", "truth.json", "--bootstrap", "2"])
except SystemExit as end:
    sys.exit(end.code or "torch" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=files, capture_output=True)


def test_the_python_of_the_page_runs(files, capsys):
    from smallobj.formats import align_runs, read_labels, read_runs

    truth = read_labels(Path("truth.json")).table
    runs = read_runs([Path("one[bold].json"), Path("two.json")])
    tables = align_runs(runs, images=truth.images, classes=truth.classes).tables
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(code, {"truth": truth, "tables": tables})
    assert capsys.readouterr().out.startswith("0.25 1 Difference(mean=")


@pytest.mark.slow
def test_the_page_shows_what_is_printed_for_three_face_detectors(real_data):
    command = [sys.executable, "benchmarks/compare.py", str(real_data("wider_predictions"))]
    printed = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True).stdout
    lines = {line.rstrip() for line in printed.splitlines()}
    (block,) = re.findall(r"```\n( metric .*?)```", PAGE, re.DOTALL)
    assert set(block.splitlines()) <= lines
