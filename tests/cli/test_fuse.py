import json
import subprocess
import sys
from pathlib import Path

import pytest

from smallobj.boxes import Classes
from smallobj.cli.main import main
from smallobj.ensemble import FusionConfig, Recipe, write_recipe
from smallobj.formats import RunInfo, read_run, write_run_info

CLASSES = Classes.of(["cat", "dog"], [3, 7])
BOX = [3, 10, 10, 20, 20]


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """Two runs that agree on one box of a.jpg; only the first has b.jpg."""
    paths = (tmp_path / "one.json", tmp_path / "two.json")
    paths[0].write_text(json.dumps({"a.jpg": [[*BOX, 0.9]], "b.jpg": [[7, 0, 0, 5, 5, 0.4]]}))
    paths[1].write_text(json.dumps({"a.jpg": [[3, 11, 10, 20, 20, 0.6]]}))
    for path in paths:
        write_run_info(
            path.with_suffix(".run.toml"), RunInfo(model=f"model-{path.stem}", classes=CLASSES)
        )
    return paths


def _fuse(*arguments: object) -> int:
    """Run the command; its exit status."""
    try:
        main(["fuse", *map(str, arguments)])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_runs_are_fused_into_a_run(
    runs: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out" / "fused.json"
    assert _fuse(*runs, "--out", out, "--weights", "2,1") == 0
    content = json.loads(out.read_text())
    assert content["a.jpg"] == [pytest.approx([3, 10.25, 10, 20, 20, 0.8])]
    assert content["b.jpg"] == [pytest.approx([7, 0, 0, 5, 5, 0.4 * 2 / 3])]
    fused = read_run(out)
    assert fused.info is not None
    assert fused.info.model == "model-one + model-two"
    assert fused.info.cap == 100
    told = capfd.readouterr()
    assert "two.json lacks 1 of 2 images" in told.err
    assert "2 images, 2 boxes of 2 runs" in told.out


@pytest.mark.parametrize(
    "options",
    [
        *(
            ("--conf-type", rule)
            for rule in ("avg", "max", "box_and_model_avg", "absent_model_aware_avg")
        ),
        *(("--method", method) for method in ("nms", "soft_nms", "nmw")),
    ],
    ids=lambda options: options[1],
)
def test_both_backends_write_the_same(
    runs: tuple[Path, Path], tmp_path: Path, options: tuple[str, str]
) -> None:
    written = []
    for backend in ("compiled", "ensemble-boxes"):
        out = tmp_path / f"{backend}.json"
        assert _fuse(*runs, "--out", out, *options, "--backend", backend) == 0
        written.append(json.loads(out.read_text()))
    assert written[0].keys() == written[1].keys()
    for image, rows in written[0].items():
        assert written[1][image] == [pytest.approx(row, abs=1e-5) for row in rows]


def test_scores_above_one_are_cut_and_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    twice, nothing = tmp_path / "twice.json", tmp_path / "nothing.json"
    twice.write_text(json.dumps({"a.jpg": [[*BOX, 1.0], [*BOX, 1.0]]}))
    nothing.write_text('{"a.jpg": []}')
    out = tmp_path / "fused.json"
    assert _fuse(twice, nothing, "--out", out, "--weights", "2,1", "--conf-type", "avg") == 0
    assert json.loads(out.read_text())["a.jpg"][0][5] == 1
    assert "1 score above 1 cut to 1" in capfd.readouterr().err


def test_fused_runs_become_coco_results(runs: tuple[Path, Path], tmp_path: Path) -> None:
    labels, out = tmp_path / "labels.coco", tmp_path / "fused.json"
    images = [{"id": 10 + i, "file_name": f"val/{name}.jpg"} for i, name in enumerate("abc")]
    categories = [{"id": 50, "name": "dog"}, {"id": 60, "name": "cat"}]
    labels.write_text(json.dumps({"images": images, "annotations": [], "categories": categories}))
    assert _fuse(*runs, "--out", out, "--to", "coco", "--labels", labels) == 0
    results = json.loads(out.read_text())
    assert [(r["image_id"], r["category_id"]) for r in results] == [(10, 60), (11, 50)]
    assert results[0]["bbox"] == pytest.approx([10.4, 10, 20, 20])
    again = tmp_path / "again.json"
    assert _fuse(out, "--out", again, "--labels", labels) == 0
    assert list(json.loads(again.read_text())) == ["val/a.jpg", "val/b.jpg"]


def test_coco_results_without_labels_are_refused(
    runs: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = set(tmp_path.iterdir())
    assert _fuse(*runs, "--out", tmp_path / "fused.json", "--to", "coco") == 2
    error = capfd.readouterr().err.splitlines()[-1]
    assert "item a.jpg" in error
    assert "--labels" in error
    assert set(tmp_path.iterdir()) == before


def test_the_cap_keeps_the_best(tmp_path: Path) -> None:
    many = tmp_path / "many.json"
    rows = [[0, 30 * i, 0, 10, 10, i / 200] for i in range(150)]
    many.write_text(json.dumps({"a.jpg": rows}))
    for cap, kept in ((5, 5), (100, 100), (0, 149)):  # the first has a score below --skip
        assert _fuse(many, "--out", tmp_path / "f.out", "--max-detections", cap) == 0
        fused = json.loads((tmp_path / "f.out").read_text())["a.jpg"]
        assert len(fused) == kept
        assert fused[0][5] == 149 / 200


def test_a_recipe_maps_weights_by_model(runs: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, out = tmp_path / "recipe.toml", tmp_path / "fused.json"
    config = FusionConfig(iou=0.5, weights=(1, 2), conf_type="box_and_model_avg")
    write_recipe(recipe, Recipe(models=("model-two", "model-one"), config=config))
    for order in (runs, runs[::-1]):
        assert _fuse(*order, "--out", out, "--recipe", recipe) == 0
        assert json.loads(out.read_text())["a.jpg"][0] == pytest.approx([3, 10.25, 10, 20, 20, 0.8])


def test_a_recipe_names_the_model_that_is_missing(
    runs: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe, out = tmp_path / "recipe.toml", tmp_path / "fused.json"
    for models, named in ((("model-one", "absent"), "model-two"), (("model-one",), "model-two")):
        weights = (1.0,) * len(models)
        write_recipe(recipe, Recipe(models=models, config=FusionConfig(weights=weights)))
        assert _fuse(*runs, "--out", out, "--recipe", recipe) == 2
        assert named in capfd.readouterr().err
    write_recipe(
        recipe, Recipe(models=("model-one", "absent"), config=FusionConfig(weights=(1, 1)))
    )
    assert _fuse(runs[0], "--out", out, "--recipe", recipe) == 2
    assert "absent" in capfd.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "no runs given"),
        (("{one}", "--weights", "1,2"), "field weights: 2 weights for 1 run, got 1,2"),
        (("{one}", "{two}", "--weights", "a,2"), "field weights"),
        (("{one}", "{two}", "--weights=-1,2"), "weights"),
        (("{one}", "--iou", "1.5"), "iou is a number from 0 to 1, not 1.5"),
        (("{one}", "--conf-type", "median"), "median"),
        (("{one}", "--backend", "torch"), "field backend"),
        (("{one}", "{one}"), "given twice"),
        (("{folder}/*.json",), "*.json"),
        (("{one}", "--recipe", "{folder}/none.toml"), "none.toml"),
        (("{one}", "--recipe", "{folder}/none.toml", "--iou", "0.5"), "field iou"),
    ],
)
def test_what_is_at_fault_is_told_in_one_line(
    runs: tuple[Path, Path],
    tmp_path: Path,
    arguments: tuple[str, ...],
    said: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "fused.json"
    given = [a.format(one=runs[0], two=runs[1], folder=tmp_path) for a in arguments]
    assert _fuse(*given, "--out", out) == 2
    error = capfd.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not out.exists()
    assert not out.with_suffix(".run.toml").exists()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "not JSON",
        "[1, 2]",
        '{"a.jpg": [[0, 1, 1, 5, 5]]}',
        '{"a.jpg": [[0, 1, 1, 5, 5, 0.5, 1]]}',
        '{"a.jpg": [[0, 1, 1, 5, NaN, 0.5]]}',
        '{"a.jpg": [[0, 1, 1, 5, 1e999, 0.5]]}',
        '{"a.jpg": [[0, 1, 1, 5, 5, 5]]}',
        '{"a.jpg": [["cat", 1, 1, 5, 5, 0.5]]}',
    ],
)
def test_a_faulty_run_leaves_nothing_written(
    runs: tuple[Path, Path], tmp_path: Path, content: str, capfd: pytest.CaptureFixture[str]
) -> None:
    bad, out = tmp_path / "bad.json", tmp_path / "fused.json"
    bad.write_text(content)
    before = set(tmp_path.iterdir())
    assert _fuse(runs[0], bad, "--out", out) == 2
    error = capfd.readouterr().err
    assert "bad.json" in error
    assert error.count("\n") == 1
    assert set(tmp_path.iterdir()) == before


def test_what_cannot_be_written_is_told_before_the_work(
    runs: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = runs[0].read_bytes()
    for out, said in (
        (tmp_path, "is a folder"),
        (runs[0] / "fused.json", "cannot be written"),
        (runs[0], "one of the runs"),
    ):
        assert _fuse(*runs, "--out", out) == 2
        assert said in capfd.readouterr().err
    assert runs[0].read_bytes() == before


def test_fusing_imports_no_torch(runs: tuple[Path, Path], tmp_path: Path) -> None:
    arguments = ["fuse", *map(str, runs), "--out", str(tmp_path / "fused.json")]
    program = (
        "import sys; from smallobj.cli.main import app;"
        f"app({arguments!r}, standalone_mode=False);"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
