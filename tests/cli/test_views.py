"""`smallobj views search`, and `predict --recipe` with what it writes, on real scans."""

import json
import os
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from smallobj.boxes import BoxTable, Images
from smallobj.cli.main import main
from smallobj.datasets import read_image
from smallobj.datasets.shipped import DEEPPCB
from smallobj.detectors import Target, build_detector, describe, load_detector
from smallobj.evaluation import map_score
from smallobj.formats import read_labels, read_run, write_labels
from smallobj.prediction import (
    PredictConfig,
    merge_kept,
    predict,
    read_view_recipe,
    threads_of,
    view_files,
)
from smallobj.weights.checkpoint import save_weights
from smallobj.weights.manifest import Manifest

pytestmark = pytest.mark.usefixtures("full_precision")  # boxes of two ways are compared

CROP = 288  # of the scans, which are 640 px wide
COUNT = 6
STEPS = 60
TILES = ("--tile", 192, "--overlap", 48)
POOL = ("--views", "hflip,scale=1|1.5")
FUSION = 'version = 2\nmodel = [{id = "tiny", weight = 1}]\n'
RECIPE = """kind = "views"
version = 1
model = "tiny"
views = ["tile=192:48", "hflip,scale=1.5,tile=192:48"]
nms_iou = 0.4
merge = "nmw"
"""  # no product: neither hflip nor the scale alone


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    """Parts of real scans in a folder `val`, their boxes beside in truth.json, as COCO."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "val").mkdir()
    labels = read_labels(DEEPPCB, split="val")
    parts = []
    for number, path in enumerate(labels.paths[:COUNT]):
        rows = labels.table.rows(number)
        left, top = labels.table.xyxy[rows][0, :2].clip(0, 640 - CROP).astype(int)
        with Image.open(path) as image:
            part = image.convert("L").crop((left, top, left + CROP, top + CROP))
        part.save(folder / "val" / f"{number}.png")
        parts.append(labels.table.xyxy[rows] - (left, top, left, top))
    xyxy = np.concatenate(parts)
    table = BoxTable.build(
        images=Images.of([f"{n}.png" for n in range(COUNT)], [(CROP, CROP)] * COUNT),
        classes=labels.table.classes,
        image_index=np.repeat(np.arange(COUNT), [len(part) for part in parts]),
        xyxy=xyxy,
        label=labels.table.label[: len(xyxy)],
    )
    inside = ((xyxy >= 0) & (xyxy <= CROP)).all(axis=1)
    write_labels(table.filter_rows(inside), folder / "truth.json", "coco")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory, scans) -> Path:
    """A tiny detector that has learnt the scans a little."""
    torch.manual_seed(0)
    detector = build_detector(
        "centernet", num_classes=6, mean=(60.0,) * 3, std=(90.0,) * 3, size="tiny"
    ).train()
    optimiser = torch.optim.AdamW(detector.parameters(), 3e-3)
    truth = truth_of(scans)
    images = [read_image(scans / "val" / image_id) for image_id in truth.images.ids]
    targets = [
        Target(
            torch.tensor(truth.xyxy[truth.rows(number)]).float(),
            torch.tensor(truth.label[truth.rows(number)]).long(),
        )
        for number in range(COUNT)
    ]
    for step in range(STEPS):
        some = [step % COUNT, (step + 1) % COUNT]
        losses = detector(torch.stack([images[n] for n in some]), [targets[n] for n in some])
        optimiser.zero_grad()
        sum(losses.values()).backward()
        optimiser.step()
    manifest = Manifest(
        **describe(detector),
        id="tiny",
        classes=truth.classes,
        train_crop_px=192,
        largest_object_px=48.0,
    )
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    save_weights(folder, detector.state_dict(), manifest)
    return folder


@pytest.fixture(scope="module")
def searched(tmp_path_factory, model, scans) -> Path:
    """The folder of a finished search: views.toml, views.json and the candidates."""
    folder = tmp_path_factory.mktemp("searched")
    arguments = ("views", "search", model, scans / "val", "--labels", scans / "truth.json")
    out = ("--out", folder / "views.toml", "--json", folder / "views.json")
    assert call(*arguments, *out, *TILES, *POOL, "--folds", 3, "--threads", 1) == 0
    return folder


def call(*arguments: object) -> int:
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def truth_of(scans: Path) -> BoxTable:
    return read_labels(scans / "truth.json", images=scans / "val").table


def assert_same_boxes(found: BoxTable, expected: BoxTable, most_px: float) -> None:
    """The same boxes, but for one in a hundred: rounding decides near ties, also at the cap."""
    assert found.images.ids == expected.images.ids
    assert np.array_equal(found.offsets, expected.offsets)
    assert len(found) > 20
    for image in range(len(found.images)):
        a, b = (columns(table, image) for table in (found, expected))
        same = (np.abs(a[:, None] - b) <= (most_px,) * 4 + (1e-6, 0)).all(axis=2)
        assert same.any(axis=0).mean() >= 0.99
        assert same.any(axis=1).mean() >= 0.99


def columns(table: BoxTable, image: int) -> np.ndarray:
    assert table.score is not None
    rows = table.rows(image)
    return np.column_stack([table.xyxy[rows], table.score[rows], table.label[rows]])


def test_a_search_writes_what_it_found(searched, scans) -> None:
    written = tomllib.loads((searched / "views.toml").read_text())
    assert (written["kind"], written["model"], written["metric"]) == ("views", "tiny", "map50")
    assert written["views"][0] == "tile=192:48"
    assert written["code_revision"]
    assert written["seconds_per_image"] > 0
    report = json.loads((searched / "views.json").read_text())
    assert report["chosen"] == written["views"]
    assert report["step"][0]["name"] == "plain view"
    assert report["images"] == COUNT
    best = [step for step in report["step"] if step["taken"]][-1]
    assert best["out_of_fold"] == written["scores"]["out_of_fold"]
    files = ["views.candidates.parquet", "views.candidates.run.toml", "views.json", "views.toml"]
    assert sorted(path.name for path in searched.iterdir()) == files
    kept = read_run(searched / "views.candidates.parquet")
    assert kept.info is not None
    assert kept.info.views == (
        "tile=192:48",
        "scale=1.5,tile=192:48",
        "hflip,tile=192:48",
        "hflip,scale=1.5,tile=192:48",
    )


def test_predicting_by_the_recipe_scores_what_was_searched(
    searched, model, scans, tmp_path, capsys
) -> None:
    recipe, out = searched / "views.toml", tmp_path / "a.json"
    assert call("predict", model, scans / "val", "--recipe", recipe, "--out", out) == 0
    chosen = tomllib.loads(recipe.read_text())
    assert "; ".join(chosen["views"]) in capsys.readouterr().err
    run = read_run(out)
    assert run.info is not None
    assert list(run.info.views) == chosen["views"]
    found = map_score(truth_of(scans), run.table)
    assert found == pytest.approx(chosen["scores"]["all_images"], abs=1e-6)


@pytest.mark.parametrize("merge", ["wbf", "nms", "nmw"])
def test_any_set_of_views_merges_to_what_predicting_with_it_gives(
    searched, model, scans, tmp_path, merge: str
) -> None:
    """A set that is no product, named by a recipe: to 1e-6 px, and as a run writes it.

    On as many threads as the search had: more of them round otherwise.
    """
    recipe = tmp_path / "views.toml"
    recipe.write_text(RECIPE.replace("nmw", merge))
    chosen = read_view_recipe(recipe, model="tiny")
    kept = read_run(searched / "views.candidates.parquet")
    assert kept.info is not None
    config = PredictConfig(views=chosen.views, nms_iou=0.4, merge=merge)
    merged = merge_kept(kept.table, kept.info.views, config)
    detector, manifest = load_detector(model)
    paths = sorted((scans / "val").iterdir())
    with threads_of(1):
        again = predict(
            detector,
            paths,
            [path.name for path in paths],
            classes=manifest.classes,
            views=chosen.views,
            nms_iou=0.4,
            merge=merge,
        )
    assert_same_boxes(merged, again, 1e-6)
    out = tmp_path / "a.json"
    arguments = ("predict", model, scans / "val", "--recipe", recipe, "--threads", 1)
    assert call(*arguments, "--out", out) == 0
    assert_same_boxes(read_run(out).table, merged, 1.01e-3)


def test_the_curve_and_the_verdict_are_told(searched, model, scans, tmp_path, capfd) -> None:
    """From candidates that are there, and only some of their views."""
    candidates = ("--candidates", searched / "views.candidates.parquet")
    options = ("--views", "scale=1.5", *TILES, "--folds", 2, "--nms-iou", "0.5,0.4")
    labels = ("--labels", scans / "truth.json", "--out", tmp_path / "views.toml")
    assert call("views", "search", model, scans / "val", *labels, *candidates, *options) == 0
    told = capfd.readouterr().out
    parts = ("map50 of 6 images, 2 folds", "in sample", "out of fold", "s an image", "plain view")
    for part in (*parts, "+ settings", f"{tmp_path / 'views.toml'}: the recipe"):
        assert part in told
    assert ("no view pays out of fold: the plain view alone is chosen" in told) or (
        "views pay: tile=192:48; scale=1.5,tile=192:48" in told
    )
    assert [path.name for path in tmp_path.iterdir()] == ["views.toml"]


def test_interrupted_it_goes_on_with_the_candidates(
    model, scans, tmp_path, capfd, monkeypatch
) -> None:
    out = tmp_path / "views.toml"
    arguments = ("views", "search", model, scans / "val", "--labels", scans / "truth.json")
    options = ("--out", out, "--views", "hflip", "--tile", 0, "--folds", 2)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(view_files, "search_views", interrupted)
        assert call(*arguments, *options) == 130
    assert "the same command goes on from there" in capfd.readouterr().err
    assert not out.exists()
    assert call(*arguments, *options) == 0
    assert "candidates of an earlier search are used again" in capfd.readouterr().err
    first = tomllib.loads(out.read_text())
    os.utime(scans / "val" / "0.png")  # as if it had been changed: predicted again
    assert call(*arguments, *options) == 0
    assert "used again" not in capfd.readouterr().err
    second = tomllib.loads(out.read_text())
    for recipe in (first, second):
        del recipe["seconds_per_image"]
    assert first == second


GIVEN = {
    "views": ("--views", "hflip"),
    "tta": ("--tta",),
    "tile": ("--tile", "auto"),
    "overlap": ("--overlap", 8),
    "nms_iou": ("--nms-iou", 0.5),
    "merge": ("--merge", "wbf"),
}


@pytest.mark.parametrize("name", GIVEN)
def test_an_option_that_the_recipe_says_is_refused(model, scans, tmp_path, capsys, name) -> None:
    recipe = tmp_path / "views.toml"
    recipe.write_text(RECIPE)
    arguments = ("predict", model, scans / "val", "--recipe", recipe, *GIVEN[name])
    assert call(*arguments, "--out", tmp_path / "a.json") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"field {name}: --recipe says what --{name.replace('_', '-')} says" in line
    assert [path.name for path in tmp_path.iterdir()] == ["views.toml"]


def test_each_command_refuses_the_recipe_of_the_other(model, scans, tmp_path, capsys) -> None:
    views, fusion, run = (tmp_path / name for name in ("views.toml", "fusion.toml", "tiny.json"))
    views.write_text(RECIPE)
    fusion.write_text(FUSION)
    run.write_text('{"a.png": [[0, 1, 1, 5, 5, 0.5]]}')
    for arguments, said in (
        (("fuse", run, "--recipe", views), "views.toml: is a recipe of views, which smallobj pre"),
        (("predict", model, scans / "val", "--recipe", fusion), "fusion.toml: is a recipe of fus"),
    ):
        assert call(*arguments, "--out", tmp_path / "a.json") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
    assert not (tmp_path / "a.json").exists()


@pytest.mark.parametrize(
    ("data", "options", "said"),
    [
        ("val", (), "no labels recognised"),
        ("empty.json", (), "the labels hold no boxes"),
        ("gone.json", (), "item gone.png: image is missing"),
        ("truth.json", ("--views", "mirror"), "field views: unknown view; known"),
        ("truth.json", ("--views", "identity"), "field views: nothing to choose from"),
        ("truth.json", ("--views", "only:hflip|vflip"), "field views: the plain view, with which"),
        ("truth.json", ("--metric", "map"), "field metric: known: map50"),
        ("truth.json", ("--folds", 7), "field folds: 6 images are too few, got 7"),
        ("truth.json", ("--nms-iou", "a"), "field nms_iou: has to be numbers"),
        ("truth.json", ("--merge", "mean"), "field merge: must be of wbf, nms, nmw, got mean"),
        ("truth.json", ("--max-views", 0), "field max_views: must be at least 1"),
        ("truth.json", ("--groups", "x"), "field groups: is no file"),
        ("truth.json", ("--candidates", "tiny.json"), "tiny.json: holds no candidates"),
        ("truth.json", ("--candidates", "other.parquet"), "field model: candidates are of another"),
        (
            "truth.json",
            ("--candidates", "kept.parquet", *POOL),
            "kept.parquet: field views: no such view was kept",
        ),
        (
            "truth.json",
            ("--candidates", "kept.parquet", "--tile", 0),
            "field tile: the candidates say their tiles",
        ),
        ("more.json", ("--candidates", "kept.parquet"), "lacks 1 of the 7 images of the labels"),
        ("classes.json", (), "class is outside the known ones"),
    ],
)
def test_what_cannot_be_searched_is_one_line_and_status_2(  # noqa: PLR0917
    model, scans, searched, tmp_path, capsys, monkeypatch, data, options, said
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(scans / "val", "val")
    shutil.copy("val/0.png", "val/more.png")
    write_variants(json.loads((scans / "truth.json").read_text()), tmp_path)
    (tmp_path / "tiny.json").write_text('{"0.png": [[0, 1, 1, 5, 5, 0.5]]}')
    for name in ("kept", "other"):
        for ending in (".parquet", ".run.toml"):
            content = (searched / f"views.candidates{ending}").read_bytes()
            content = content.replace(b'"tiny"', b'"huge"') if name == "other" else content
            (tmp_path / f"{name}{ending}").write_bytes(content)
    before = sorted(path.name for path in tmp_path.iterdir())
    place = ("val",) if data == "val" else ("val", "--labels", data)
    assert call("views", "search", model, *place, *options, "--out", "out/views.toml") == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def write_variants(truth: dict, folder: Path) -> None:
    """Labels as they should be, and faulty ones."""
    (width, height), images = (CROP, CROP), truth["images"]
    more = [
        {"id": 99, "file_name": f"{name}.png", "width": width, "height": height}
        for name in ("gone", "more")
    ]
    named = [{**one, "name": f"other {one['id']}"} for one in truth["categories"]]
    for name, changes in {
        "truth": {},
        "empty": {"annotations": []},
        "gone": {"images": [*images, more[0]]},
        "more": {"images": [*images, more[1]]},
        "classes": {"categories": named},
    }.items():
        (folder / f"{name}.json").write_text(json.dumps({**truth, **changes}))
