"""`smallobj evaluate` from the shell's side: what it writes, prints and refuses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from smallobj.cli.main import main

TRUTH = {"a.jpg": [[0, 10, 10, 20, 20], [1, 50, 50, 90, 90]], "b[bold].jpg": [[0, 5, 5, 12, 12]]}
GOOD = {
    "a.jpg": [[0, 10, 10, 20, 20, 0.9], [1, 50, 50, 90, 90, 0.8]],
    "b[bold].jpg": [[0, 5, 5, 12, 12, 0.7]],
}
HALF = {"a.jpg": [[0, 10, 10, 20, 20, 0.9], [0, 70, 70, 20, 20, 0.95]]}


@pytest.fixture
def files(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    contents = {"truth": TRUTH, "good[bold]": GOOD, "half": HALF}
    for name, content in contents.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return tmp_path


def evaluate(*arguments: str) -> None:
    with pytest.raises(SystemExit) as end:
        main(["evaluate", *arguments, "--labels", "truth.json"])
    assert end.value.code == 0


def refused(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(["evaluate", *arguments])
    assert end.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    return output.err


def test_scores_of_one_run_in_tables_and_json(files, capsys):
    evaluate("good[bold].json", "--json", "out/scores.json", "--coco", "--bootstrap", "20")
    shown = capsys.readouterr().out
    assert "good[bold]" in shown
    assert "3 true boxes in 2 images" in shown
    assert "1.0000 (1.000 to 1.000)" in shown
    written = json.loads((files / "out" / "scores.json").read_text())
    run = written["runs"][0]
    assert run["name"] == "good[bold]"
    assert run["overall"]["map50_95"] == 1
    assert [part["boxes"] for part in run["by_size"]] == [1, 1, 0, 1, 0]
    assert run["by_size"][2]["map50"] is None
    assert run["intervals"]["map50"] == {"low": 1, "high": 1}
    assert run["coco"]["AP"] == pytest.approx(1)


def test_several_runs_are_compared_and_missing_images_told(files, capsys):
    evaluate("good[bold].json", "half.json", "--json", "scores.json", "--metric", "map75")
    output = capsys.readouterr()
    assert "half.json lacks 1 of 2 images" in output.err
    assert "map75 above good[bold]" in output.out
    good, half = json.loads((files / "scores.json").read_text())["runs"]
    # class 0: one of two found, after a false one; class 1: not found
    assert half["overall"]["map50"] == pytest.approx((0.25 + 0) / 2)
    assert good["above_first"] == {}
    assert half["above_first"]["map50"]["mean"] < 0


def test_common_scores_the_images_every_run_holds(files, capsys):
    evaluate("good[bold].json", "half.json", "--json", "all.json")
    assert "note: --common scores only the 1 image that every run holds" in capsys.readouterr().err
    evaluate("good[bold].json", "half.json", "--json", "common.json", "--common")
    output = capsys.readouterr()
    assert "only the images that every run holds count: 1 of 2" in output.err
    assert "2 true boxes in 1 image" in output.out
    every, common = (json.loads((files / f"{n}.json").read_text()) for n in ("all", "common"))
    assert (every["common"], common["common"]) == (False, True)
    recall = [written["runs"][1]["overall"]["recall50"] for written in (every, common)]
    assert recall == pytest.approx([0.25, 0.5])  # class 0: one of two, of one; class 1: none
    (files / "bare.json").write_text('{"b[bold].jpg": []}')
    truth = ("--labels", "truth.json", "--common")
    assert "in every run" in refused(capsys, "half.json", "bare.json", *truth)
    (files / "truth.json").write_text('{"a.jpg": [], "c.jpg": [[0, 1, 1, 5, 5]]}')
    assert "no boxes to find in the images that every" in refused(capsys, "half.json", *truth)


def test_the_cap_is_told_and_can_be_lifted(files, capsys):
    evaluate("half.json", "--max-detections", "1", "--json", "one.json", "--bootstrap", "0")
    evaluate("half.json", "--max-detections", "0", "--json", "all.json", "--bootstrap", "0")
    one, every = (
        json.loads((files / name).read_text())["runs"][0] for name in ("one.json", "all.json")
    )
    assert (one["detections"], one["dropped"], one["overall"]["map50"]) == (1, 1, 0)
    assert (every["detections"], every["dropped"]) == (2, 0)
    assert one["intervals"] == {}


def test_what_cannot_be_scored_is_refused_in_one_line(files, capsys):
    (files / "empty.json").write_text('{"a.jpg": []}')
    (files / "other.json").write_text('{"z.jpg": [[0, 1, 1, 5, 5, 0.5]]}')
    (files / "wrong.json").write_text('{"a.jpg": [[0, 1, 1, 5, 5, 1.5]]}')
    (files / "classes.json").write_text('{"a.jpg": [[7, 1, 1, 5, 5, 0.5]]}')
    truth = ("--labels", "truth.json")
    assert "map50, map75, map50_95" in refused(capsys, "half.json", *truth, "--metric", "map")
    assert "area, coco101, voc11" in refused(capsys, "half.json", *truth, "--ap", "voc")
    assert "no boxes to find" in refused(capsys, "half.json", "--labels", "empty.json")
    assert "no image in common" in refused(capsys, "other.json", *truth)
    assert "1.5" in refused(capsys, "wrong.json", *truth)
    assert "7" in refused(capsys, "classes.json", *truth)
    assert "no runs given" in refused(capsys, *truth)
    assert "nowhere" in refused(capsys, "half.json", "--labels", "nowhere")
    assert "cannot be written" in refused(capsys, "half.json", *truth, "--json", str(files))


def test_evaluate_does_not_load_torch(files):
    code = """
import sys
from smallobj.cli.main import main
try:
    main(["evaluate", "half.json", "--labels", "truth.json", "--bootstrap", "2"])
except SystemExit as end:
    sys.exit(end.code or "torch" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=files, capture_output=True)


def test_runs_of_one_name_are_told_apart_by_their_folders(files, capsys):
    (files / "tta").mkdir()
    (files / "tta" / "half.json").write_text(json.dumps(HALF))
    evaluate("half.json", "tta/half.json", "--bootstrap", "0")
    shown = capsys.readouterr().out
    assert "tta/half.json" in shown
    assert " half.json" in shown
