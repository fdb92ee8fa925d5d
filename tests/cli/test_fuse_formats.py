"""Fusing runs of all formats, their views and their classes, from the command line."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from smallobj.boxes import BoxTable, Classes, Images, InputError, Source
from smallobj.cli.main import app
from smallobj.ensemble import FusionConfig, Recipe, write_recipe
from smallobj.formats import RunInfo, read_run, write_run

NAMES = Classes.of(["cat", "dog"], [3, 7])
BOX = (10.0, 10.0, 30.0, 30.0)


def table_of(
    boxes: list[tuple[float, float, float, float]],
    scores: list[float],
    sources: tuple[Source, ...] = (),
) -> BoxTable:
    """Cats in one image of 64 x 48 px."""
    return BoxTable(
        images=Images.of(["a.jpg"], [(64, 48)]),
        classes=NAMES,
        offsets=np.array([0, len(boxes)]),
        xyxy=np.array(boxes),
        label=np.zeros(len(boxes), np.int32),
        score=np.array(scores),
        source=np.arange(len(boxes)) if sources else None,
        sources=sources,
    )


def write(path: Path, table: BoxTable, model: str | None = None, kind: str = "parquet") -> Path:
    write_run(path, table, RunInfo(model=model or path.stem, classes=NAMES), kind=kind)
    return path


def command(*arguments: object) -> tuple[str, str]:
    """What the command says on stdout and stderr; raises what it raises."""
    done = CliRunner().invoke(app, ["fuse", *map(str, arguments)], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.stdout, done.stderr


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    """The same cat in three runs of three formats."""
    return [
        write(tmp_path / "a.json", table_of([BOX], [0.9]), kind="challenge"),
        write(tmp_path / "b.csv", table_of([BOX], [0.6]), kind="openimages"),
        write(tmp_path / "c.parquet", table_of([BOX], [0.3])),
    ]


@pytest.mark.parametrize(
    ("name", "options", "kind"),
    [
        ("f.json", (), "challenge"),
        ("f.csv", (), "openimages"),
        ("f.parquet", (), "parquet"),
        ("f.out", (), "challenge"),
        ("f.PARQUET", (), "parquet"),
        ("f.json", ("--to", "parquet"), "parquet"),
        ("folder", ("--to", "yolo"), "yolo"),
    ],
)
def test_runs_of_all_formats_become_one_of_any(
    three: list[Path], tmp_path: Path, name: str, options: tuple[str, ...], kind: str
) -> None:
    out = tmp_path / "fused" / name
    said, _ = command(*three, "--out", out, *options)
    assert said.startswith(f"{out}: 1 image, 1 box of 3 runs")
    run = read_run(out)
    assert run.kind == kind
    assert run.info is not None
    assert run.info.model == "a + b + c"
    assert run.info.classes == NAMES
    if run.unit == "pixel":
        assert run.table.xyxy.tolist() == [pytest.approx(list(BOX))]
    assert run.table.score == pytest.approx([0.6])


def test_classes_of_a_run_are_said_by_a_file(tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("dog\ncat\n")
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    paths[0].write_text(json.dumps({"a.jpg": [[1, 10, 10, 20, 20, 0.8]]}))
    paths[1].write_text(json.dumps({"a.jpg": [[3, 10, 10, 20, 20, 0.4]]}))
    paths[1].with_suffix(".run.toml").write_text(
        'model = "b"\nclasses = {names = ["cat", "dog"], ids = [3, 7]}\n'
    )
    out = tmp_path / "fused.parquet"
    command(*paths, "--out", out, "--classes", f"a={names}")
    table = read_run(out).table
    assert [table.classes.names[label] for label in table.label] == ["cat"]
    assert table.score == pytest.approx([0.6])


def test_fractions_become_pixels_by_the_images(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "photos").mkdir()
    Image.new("L", (200, 100)).save(tmp_path / "photos" / "a.jpg")
    columns = {"image": ["a.jpg"], "label": [0], "score": [0.5]}
    columns |= {"x1": [0.1], "y1": [0.1], "x2": [0.2], "y2": [0.4]}
    pq.write_table(pa.table(columns), tmp_path / "r.parquet")
    out = tmp_path / "fused.json"
    with pytest.raises(InputError, match="sizes are unknown"):
        command(tmp_path / "r.parquet", "--out", out)
    _, told = command(tmp_path / "r.parquet", "--out", out, "--images", tmp_path / "photos")
    assert "has boxes as fractions of the images: the runs are read whole" in told
    assert json.loads(out.read_text())["a.jpg"] == [pytest.approx([0, 20, 10, 20, 30, 0.5])]
    command(tmp_path / "r.parquet", "--out", out, "--unit", "pixel")
    assert json.loads(out.read_text())["a.jpg"] == [pytest.approx([0, 0.1, 0.1, 0.1, 0.3, 0.5])]


def test_runs_of_one_model_vote_as_one(tmp_path: Path) -> None:
    runs = [
        write(tmp_path / "plain.parquet", table_of([BOX], [0.9]), "m"),
        write(tmp_path / "hflip.parquet", table_of([BOX], [0.8]), "m"),
        write(tmp_path / "other.parquet", table_of([(40, 1, 60, 20)], [0.7]), "n"),
    ]
    out = tmp_path / "fused.parquet"
    _, told = command(*runs, "--out", out, "--min-votes", 2)
    assert "plain, hflip are views of one model (m) and vote as one" in told
    assert len(read_run(out).table) == 0
    _, told = command(*runs, "--out", out, "--min-votes", 2, "--views-as-runs")
    assert "views of one model" not in told
    assert len(read_run(out).table) == 1


def test_views_inside_a_run_vote_as_one(tmp_path: Path) -> None:
    views = (Source("m", "plain"), Source("m", "hflip"))
    run = write(tmp_path / "m.parquet", table_of([BOX, BOX], [0.9, 0.7], views))
    out = tmp_path / "fused.parquet"
    command(run, "--out", out, "--min-votes", 2)
    assert len(read_run(out).table) == 0
    command(run, "--out", out, "--min-votes", 2, "--views-as-runs")
    assert read_run(out).table.score == pytest.approx([0.8])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--method", "median"), "unknown method 'median'; known: wbf, nms, soft_nms, nmw"),
        (("--method", "soft_nms", "--min-votes", "2"), "knows no min_votes"),
        (("--soft", "cubic"), "unknown soft 'cubic'"),
        (("--sigma", "0"), "sigma is finite and above 0"),
        (("--shift-px=-1",), "shift_px is a number from 0"),
        (("--min-votes", "0"), "min_votes is at least 1"),
        (("--nms-iou", "0.5,0.6"), "field nms_iou: 2 nms_iou for 3 runs, got 0.5,0.6"),
        (("--nms-iou", "0.5,b"), "field nms_iou: has to be numbers with commas between"),
        (("--nms-iou", "2"), "nms_iou is a number from 0 to 1, not 2"),
        (("--thresholds",), "field thresholds: needs a recipe with a working point"),
        (("--recipe", "{recipe}", "--thresholds"), "field thresholds: needs a recipe"),
        (("--recipe", "{recipe}", "--class-agnostic"), "field class_agnostic: --recipe says"),
        (("--recipe", "{recipe}", "--views-as-runs"), "field views_as_runs: --recipe says"),
        (("--backend", "ensemble-boxes", "--shift-px", "2"), "field shift_px: ensemble-boxes"),
        (("--classes", "x=names.txt"), "no such run"),
        (("--weights", "0,0,0"), "every weight is zero"),
    ],
)
def test_settings_that_do_not_go_together_are_told(
    three: list[Path], tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    recipe, out = tmp_path / "recipe.toml", tmp_path / "out" / "fused.json"
    config = FusionConfig(weights=(1.0, 1.0, 1.0))
    write_recipe(recipe, Recipe(models=("a", "b", "c"), config=config))
    with pytest.raises(InputError) as told:
        command(*three, "--out", out, *(option.format(recipe=recipe) for option in options))
    assert said in str(told.value)
    assert not out.parent.exists()
