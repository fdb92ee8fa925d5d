import json
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from time import sleep

import numpy as np
import pyarrow.parquet as pq
import pytest

from smallobj.cli.main import main

ROWS = 4


@pytest.fixture
def data(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Labels of 20 images, and two runs that each miss half of the boxes."""
    rng = np.random.default_rng(0)
    labels: dict[str, list] = {}
    runs: list[dict[str, list]] = [{}, {}]
    for image in range(20):
        name = f"{image}.jpg"
        boxes = [[k % 2, 100 * k, 50, 20, 20] for k in range(ROWS)]
        labels[name] = boxes
        for run in range(2):
            runs[run][name] = [[0, 5, 5, 9, 9, round(0.4 * rng.random(), 6)]]
            for box in boxes:
                if rng.random() < 0.6:
                    runs[run][name].append([*box, round(0.3 + 0.7 * rng.random(), 6)])
    paths = (tmp_path / "truth.json", tmp_path / "one.json", tmp_path / "two.json")
    for path, content in zip(paths, (labels, *runs), strict=True):
        path.write_text(json.dumps(content))
    return paths


def _run(*arguments: object) -> int:
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_a_recipe_is_chosen_told_and_used(
    data: tuple[Path, Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    truth, *runs = data
    recipe, fused = tmp_path / "recipe.toml", tmp_path / "fused.json"
    grid = ("--grid", "iou=0.5,0.6", "--grid", "skip=0.001", "--grid", "weights=1,1|2,1")
    assert _run("tune", *runs, "--labels", truth, "--out", recipe, *grid) == 0
    told = capfd.readouterr().out
    for part in ("out of fold", "untuned default", "alone (best single run)", "95 % interval"):
        assert part in told
    written = tomllib.loads(recipe.read_text())
    assert [model["id"] for model in written["model"]] == ["one", "two"]
    assert written["scores"]["out_of_fold"] > written["scores"]["best_single"]
    assert pq.read_table(tmp_path / "recipe.grid.parquet").num_rows == 2 + 1 + 2 * 2 * 2
    report = tomllib.loads((tmp_path / "recipe.tune.toml").read_text())
    assert report["tuned"]["out_of_fold"] == written["scores"]["out_of_fold"]
    steps = ["best as it is", "settings", "calibration", "size-aware IoU", "weights"]
    assert [step["name"] for step in report["step"]] == [*steps, "learnt confidence"]
    assert "<svg" in (tmp_path / "recipe.heatmap.svg").read_text()
    assert not (tmp_path / "recipe.tune.part.jsonl").exists()
    assert _run("fuse", *runs, "--out", fused, "--recipe", recipe) == 0
    scores = tmp_path / "scores.json"
    arguments = ("--labels", truth, "--bootstrap", 0, "--json", scores)
    assert _run("evaluate", fused, *arguments) == 0
    assert f"{written['scores']['all_images']:.4f}"[:5] in scores.read_text()


def test_a_run_alone_that_is_best_is_told(
    data: tuple[Path, Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    truth, weak, _ = data
    perfect, recipe = tmp_path / "perfect.json", tmp_path / "recipe.toml"
    labels = json.loads(truth.read_text())
    perfect.write_text(json.dumps({name: [[*b, 1] for b in rows] for name, rows in labels.items()}))
    few = ("--grid", "iou=0.5,0.6", "--calibration", "platt")
    assert _run("tune", weak, perfect, "--labels", truth, "--out", recipe, *few) == 0
    assert "no fusion beats perfect alone" in capfd.readouterr().out
    assert [model["weight"] for model in tomllib.loads(recipe.read_text())["model"]] == [0, 1]


def test_common_tunes_on_the_images_every_run_holds(
    data: tuple[Path, Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    truth, *runs = data
    content = json.loads(runs[0].read_text())
    runs[0].write_text(json.dumps(dict(list(content.items())[:8])))
    labels = tmp_path / "eight.json"
    labels.write_text(json.dumps(dict(list(json.loads(truth.read_text()).items())[:8])))
    grid = ("--grid", "iou=0.5", "--grid", "skip=0.001", "--no-calibrate", "--folds", "2")
    recipes = [tmp_path / "common.toml", tmp_path / "cut.toml"]
    assert _run("tune", *runs, "--labels", truth, "--common", "--out", recipes[0], *grid) == 0
    assert "every run holds count: 8 of 20" in capfd.readouterr().err
    assert _run("tune", *runs, "--labels", labels, "--out", recipes[1], *grid) == 0
    assert recipes[0].read_text() == recipes[1].read_text()


def test_folds_without_boxes_are_no_fault(
    data: tuple[Path, Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    truth, *runs = data
    few = {
        name: rows if name == "3.jpg" else []
        for name, rows in json.loads(truth.read_text()).items()
    }
    truth.write_text(json.dumps(few))
    arguments = ("--labels", truth, "--out", tmp_path / "recipe.toml", "--grid", "iou=0.5")
    assert _run("tune", *runs, *arguments) == 0
    told = capfd.readouterr()
    assert told.err == ""
    assert "nan" not in told.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("{one}", "--metric", "map"), "field metric"),
        (("{one}", "--grid", "uoi=0.5"), "field grid"),
        (("{one}", "--grid", "iou=0.5", "--grid", "iou=0.6"), "given twice"),
        (("{one}", "--grid", "sigma=0", "--grid", "method=soft_nms"), "sigma"),
        (("{one}", "--calibration", "plat"), "field calibration: known: auto, none"),
        (("{one}", "--operating-point", "f2"), "field operating_point"),
        (("{one}", "--search", "grid"), "field search: known: optuna"),
        (("{one}", "--search", "optuna"), "say --trials"),
        (("{one}", "--trials", "9"), "say --search optuna"),
        (("{one}", "--storage", "sqlite:///x.db"), "say --search optuna"),
        (("{one}", "--search", "optuna", "--trials", "9", "--study", "a"), "say --storage"),
        (("{one}", "--search", "optuna", "--trials", "9", "--grid", "iou=0.5"), "field grid"),
        (("{one}", "--max-weight-mb", "0"), "above 0"),
        (("{one}", "--max-weight-mb", "9"), "one"),
        (("{one}", "--groups", "("), "no regular expression"),
        (("{one}", "--groups", "photo"), "needs (...)"),
        (("{one}", "--groups", "(x)"), "has no group by this pattern"),
        (("{one}", "--groups", r"\.(jpg)"), "groups are too few"),
        (("{one}", "{two}", "--grid", "weights=1,1,1"), "3 weights for 2 runs"),
        (("{one}", "--grid", "iou=2"), "iou"),
        (("{one}", "--folds", "1"), "1"),
        (("{one}", "--folds", "21"), "21"),
        ((), "no runs given"),
        (("{folder}/none.json",), "none.json"),
        (("{other}",), "labels of another data set"),
    ],
)
def test_what_is_at_fault_is_told_in_one_line(
    data: tuple[Path, Path, Path],
    tmp_path: Path,
    arguments: tuple[str, ...],
    said: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    truth, one, two = data
    other, recipe = tmp_path / "other.json", tmp_path / "recipe.toml"
    other.write_text('{"elsewhere.jpg": [[0, 1, 1, 5, 5, 0.5]]}')
    given = [a.format(one=one, two=two, other=other, folder=tmp_path) for a in arguments]
    assert _run("tune", *given, "--labels", truth, "--out", recipe) == 2
    error = capfd.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not recipe.exists()


def test_what_cannot_be_written_is_told_before_the_work(
    data: tuple[Path, Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    truth, *runs = data
    assert _run("tune", *runs, "--labels", truth, "--out", tmp_path) == 2
    assert "is a folder" in capfd.readouterr().err


def test_killed_half_way_it_goes_on_to_the_same_recipe(
    data: tuple[Path, Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    truth, *runs = data
    whole, killed = tmp_path / "whole.toml", tmp_path / "killed.toml"
    options = ("--labels", truth, "--calibration", "platt", "--grid", "iou=0.3:0.8:0.05")
    assert _run("tune", *runs, *options, "--out", whole) == 0
    code = "import sys; from smallobj.cli.main import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "tune", *runs, *options, "--out", killed]
    part = tmp_path / "killed.tune.part.jsonl"
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL)
    while process.poll() is None and (not part.exists() or part.read_bytes().count(b"\n") < 90):
        sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it was killed"
    assert not killed.exists()
    with part.open("ab") as stream:
        stream.write(b'{"key": "torn')
    capfd.readouterr()
    assert _run("tune", *runs, *options, "--out", killed) == 0
    told = re.search(r"(\d+) scores of an interrupted run are used again", capfd.readouterr().err)
    assert told is not None
    assert int(told[1]) >= 89
    assert killed.read_text() == whole.read_text()
    assert not part.exists()


def test_scores_of_other_inputs_are_not_used(
    data: tuple[Path, Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    truth, *runs = data
    part = tmp_path / "recipe.tune.part.jsonl"
    part.write_text('{"inputs": "of another data set"}\n{"key": "x", "scores": [1.0]}\n')
    options = ("--labels", truth, "--no-calibrate", "--grid", "iou=0.5", "--folds", "2")
    assert _run("tune", *runs, *options, "--out", tmp_path / "recipe.toml") == 0
    assert "interrupted" not in capfd.readouterr().err


def test_thresholds_groups_and_limits_are_told_and_in_the_files(
    data: tuple[Path, Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    truth, *runs = data
    recipe, costs, groups = (tmp_path / name for name in ("r.toml", "costs.toml", "groups.csv"))
    costs.write_text("[one]\nweight_mb = 30\nlatency_ms = 5\n[two]\nweight_mb = 60\nlatency_ms = 2")
    groups.write_text("image,group\n" + "".join(f"{n}.jpg,{n // 4}\n" for n in range(20)))
    options = ("--labels", truth, "--no-calibrate", "--grid", "iou=0.5", "--folds", "3")
    more = ("--operating-point", "precision=0.9", "--costs", costs, "--groups", groups)
    assert _run("tune", *runs, *options, *more, "--max-weight-mb", 60, "--out", recipe) == 0
    told = capfd.readouterr().out
    for part in ("Working point precision=0.9", "What more cost buys", "alone: the recipe takes"):
        assert part in told
    written = tomllib.loads(recipe.read_text())
    assert len(written["operating_point"]["class"]) == 2
    assert sum(model["weight"] > 0 for model in written["model"]) == 1
    report = tomllib.loads((tmp_path / "r.tune.toml").read_text())
    assert report["front"]
    assert 0 < report["operating_point"]["out_of_fold"]["precision"] <= 1


def test_the_report_is_printed_as_json(
    data: tuple[Path, Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    truth, *runs = data
    options = ("--labels", truth, "--no-calibrate", "--grid", "iou=0.5", "--folds", "2")
    assert _run("tune", *runs, *options, "--out", tmp_path / "r.toml", "--json") == 0
    report = json.loads(capfd.readouterr().out)
    assert report["step"][0]["name"] == "best as it is"
    assert report["tuned"]["out_of_fold"] >= report["untuned"]["out_of_fold"] - 0.1
