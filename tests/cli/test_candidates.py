"""Candidates kept by `predict`, then suppressed and merged by `fuse`, `tune` and `merge_kept`."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from smallobj.boxes import BoxTable, Classes, InputError
from smallobj.cli.main import main
from smallobj.detectors import Target, build_detector, describe
from smallobj.ensemble import default_settings
from smallobj.evaluation import evaluate
from smallobj.formats import Run, read_labels, read_run
from smallobj.prediction import PredictConfig, merge_kept
from smallobj.tta import parse_views
from smallobj.weights.checkpoint import save_weights
from smallobj.weights.manifest import Manifest

pytestmark = pytest.mark.usefixtures("full_precision")  # boxes of two ways are compared

WAYS = ("wbf", "nms", "nmw")
SIDE = 16  # of the squares, pixels
COLOURS = ((230, 40, 40), (40, 230, 40))


def picture(rng: np.random.Generator, width: int, height: int, squares: int) -> tuple:
    """Noise with squares of two colours; pixels uint8 [H, W, 3], boxes [M, 4], labels [M]."""
    pixels = rng.integers(0, 120, (height, width, 3), dtype=np.uint8)
    low = np.column_stack([rng.integers(0, n - SIDE, squares) for n in (width, height)])
    label = rng.integers(0, 2, squares)
    for (x, y), kind in zip(low, label, strict=True):
        pixels[y : y + SIDE, x : x + SIDE] = COLOURS[kind]
    return pixels, np.concatenate([low, low + SIDE], axis=1), label


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A tiny detector, trained for some steps on squares in noise."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    detector = build_detector(
        "centernet", num_classes=2, mean=(70.0,) * 3, std=(50.0,) * 3, size="tiny"
    ).train()
    optimiser = torch.optim.AdamW(detector.parameters(), 2e-3)
    for _ in range(40):
        drawn = [picture(rng, 64, 64, 3) for _ in range(4)]
        images = torch.stack([torch.from_numpy(d[0]).permute(2, 0, 1) for d in drawn])
        targets = [Target(torch.tensor(d[1]).float(), torch.tensor(d[2])) for d in drawn]
        loss = sum(detector(images, targets).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    manifest = Manifest(
        **describe(detector),
        id="tiny",
        classes=Classes.of(["0", "1"]),
        train_crop_px=64,
        largest_object_px=float(SIDE),
    )
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    save_weights(folder, detector.state_dict(), manifest)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Six images, some larger than a tile, and their labels beside."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "photos").mkdir()
    rng = np.random.default_rng(1)
    labels = {}
    for i, (width, height) in enumerate(
        [(150, 101), (64, 64), (97, 130), (40, 33)] + [(128, 96)] * 2
    ):
        pixels, xyxy, label = picture(rng, width, height, 6)
        Image.fromarray(pixels).save(folder / "photos" / f"{i}.png")
        labels[f"{i}.png"] = [
            [int(kind), int(x1), int(y1), int(x2 - x1), int(y2 - y1)]
            for kind, (x1, y1, x2, y2) in zip(label, xyxy, strict=True)
        ]
    (folder / "truth.json").write_text(json.dumps(labels))
    return folder / "photos"


def call(*arguments: object) -> int:
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@pytest.fixture
def predicted(model, photos, tmp_path):
    """Predict with these options; gives the run that was written."""

    def run(name: str, *options: object) -> Run:
        assert call("predict", model, photos, "--out", tmp_path / name, *options) == 0
        return read_run(tmp_path / name)

    return run


def assert_same_boxes(found: BoxTable, expected: BoxTable, *, least_px: float = 0.0) -> None:
    """The same boxes but for what the run's JSON rounds; least_px: smaller ones left out."""
    one, other = (
        table.filter_rows(np.sqrt(table.box_area) >= least_px) for table in (found, expected)
    )
    assert one.images.ids == other.images.ids
    assert np.array_equal(one.offsets, other.offsets)
    assert len(one) > 50
    for image in range(len(one.images)):
        a, b = (rows_of(table, image) for table in (one, other))
        off = np.abs(a[:, None] - b) / (1e-3, 1e-3, 1e-3, 1e-3, 1e-6, 1e-3)
        same = (off < 3).all(axis=2)
        assert same.any(axis=0).all()
        assert same.any(axis=1).all()


def rows_of(table: BoxTable, image: int) -> np.ndarray:
    assert table.score is not None
    rows = table.rows(image)
    return np.column_stack([table.xyxy[rows], table.score[rows], table.label[rows]])


TILES = ("--tile", 64, "--overlap", 24)
FUSE = ("--skip", 0, "--max-detections", 300)
ALL = ("--skip", 0, "--max-detections", 1000)


def test_candidates_of_one_view_fuse_to_what_predict_writes(predicted, tmp_path, capfd) -> None:
    """By default as they would have been suppressed, and by any other IoU without predicting."""
    kept = predicted("kept.parquet", *TILES, "--keep", "candidates")
    assert call("fuse", kept.path, "--out", tmp_path / "fused.json", *FUSE) == 0
    assert "kept holds candidates, suppressed by IoU 0.5" in capfd.readouterr().err
    plain = predicted("plain.json", *TILES)
    assert len(kept.table) > len(plain.table)
    assert_same_boxes(read_run(tmp_path / "fused.json").table, plain.table)
    assert call("fuse", kept.path, "--out", tmp_path / "b.json", *FUSE, "--nms-iou", 0.2) == 0
    other = predicted("other.json", *TILES, "--nms-iou", 0.2)
    assert_same_boxes(read_run(tmp_path / "b.json").table, other.table)


def test_candidates_of_many_views_fuse_to_what_merging_by_nms_writes(predicted, tmp_path) -> None:
    views = (*TILES, "--views", "hflip,scale=0.75|1,whole")
    kept = predicted("kept.parquet", *views, "--keep", "candidates")
    assert call("fuse", kept.path, "--out", tmp_path / "fused.json", *FUSE) == 0
    plain = predicted("plain.json", *views, "--merge", "nms")
    assert_same_boxes(read_run(tmp_path / "fused.json").table, plain.table)


@pytest.mark.parametrize(
    ("merge", "looks"),
    [
        ("wbf", ("--tile", 0, "--views", "flips")),
        ("nmw", (*TILES, "--views", "hflip,scale=1.5,whole")),
    ],
)
def test_views_that_see_everything_fuse_as_runs_to_what_predict_writes(
    predicted, tmp_path, merge: str, looks: tuple
) -> None:
    """All but what is too small to be seen (4 px), on which no view that missed it votes.

    By nmw nobody votes, so any views do.
    """
    views = (*looks, "--max-boxes", 1000)
    kept = predicted("kept.parquet", *views, "--keep", "candidates")
    options = ("--views-as-runs", "--iou", 0.5, "--method", merge)
    assert call("fuse", kept.path, "--out", tmp_path / "fused.json", *ALL, *options) == 0
    plain = predicted("plain.json", *views, "--merge", merge)
    assert_same_boxes(
        read_run(tmp_path / "fused.json").table, plain.table, least_px=4.01 * (merge == "wbf")
    )


@pytest.mark.parametrize("merge", WAYS)
def test_any_views_merge_later_to_what_predict_writes(predicted, merge: str) -> None:
    """Tiles, the whole image, scales, light: all of the views kept, or some of them."""
    spec = "only:hflip|scale=1.5,whole,brightness=1.2"
    kept = predicted("kept.parquet", *TILES, "--views", spec, "--keep", "candidates")
    assert kept.info is not None
    views = kept.info.views
    assert len(views) == 8
    for name, use in (("all", views), ("some", (views[5], views[0], views[3]))):
        looks = tuple(
            view
            for one in use
            for view in parse_views(",".join(f"only:{part}" for part in one.split(",")))
        )
        config = PredictConfig(views=looks, nms_iou=0.4, merge=merge)
        found = merge_kept(kept.table, views, config)
        if name == "all":
            plain = predicted(
                "all.json", *TILES, "--views", spec, "--merge", merge, "--nms-iou", 0.4
            )
            assert_same_boxes(found, plain.table)
    with pytest.raises(InputError, match="no such view was kept"):
        merge_kept(kept.table, views, PredictConfig(views=parse_views("rot90")))


def test_a_view_that_another_stood_for_is_merged_alone(predicted) -> None:
    """Small images are one tile, so that the tiles' candidates are those of the whole image."""
    kept = predicted("kept.parquet", *TILES, "--views", "whole=64", "--keep", "candidates")
    config = PredictConfig(views=parse_views("only:whole=64"))
    assert kept.info is not None
    found = merge_kept(kept.table, kept.info.views, config)
    plain = predicted("plain.json", *TILES, "--views", "only:whole=64")
    assert_same_boxes(found, plain.table)


def test_the_run_says_what_it_holds(predicted, tmp_path) -> None:
    views = ("--views", "hflip", "--nms-iou", 0.6, "--merge", "nmw")
    kept = predicted("kept.parquet", *TILES, *views, "--keep", "candidates")
    said = tomllib.loads((tmp_path / "kept.run.toml").read_text())
    assert said["candidates"] is True
    assert (said["nms_iou"], said["merge"]) == (0.6, "nmw")
    assert "cap" not in said
    assert {source.view for source in kept.table.sources} == {
        "tile=64:24",
        "hflip,tile=64:24",
    }
    assert (kept.table.images.width[:4] == [150, 64, 97, 40]).all()
    (tmp_path / "kept.run.toml").unlink()  # the Parquet file says it too
    alone = read_run(kept.path)
    assert alone.info == kept.info
    plain = predicted("plain.json", *TILES, *views)
    assert plain.info is not None
    assert not plain.info.candidates
    assert (plain.info.nms_iou, plain.info.merge, plain.info.cap) == (0.6, "nmw", 300)


def test_tune_scores_each_suppression_as_predicting_with_it_scores(
    predicted, photos, tmp_path
) -> None:
    """A row of its grid for each IoU; by default it tries some where a run holds candidates."""
    kept = predicted("kept.parquet", *TILES, "--keep", "candidates")
    truth = read_labels(photos.parent / "truth.json").table
    grid = ("--grid", "nms=0.2,0.5,0.9", "--grid", "iou=0.9", "--grid", "skip=0")
    options = ("--no-calibrate", "--no-learn", "--folds", 2, "--out", tmp_path / "recipe.toml")
    labels = ("--labels", photos.parent / "truth.json")
    assert call("tune", kept.path, *labels, *grid, *options) == 0
    rows = pq.read_table(tmp_path / "recipe.grid.parquet").to_pylist()
    tried = {row["nms tiny"]: row["all images"] for row in rows if row["what"] == "tried"}
    assert set(tried) == {0.2, 0.5, 0.9}
    for iou, score in tried.items():
        plain = predicted(f"{iou}.json", *TILES, "--nms-iou", iou)
        assert evaluate(truth, plain.table).map50 == pytest.approx(score, abs=1e-6)
    assert tried[0.5] != tried[0.9]
    assert any(setting.nms_iou for setting in default_settings([kept.table]))


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("a.json", ("--keep", "candidates"), "a run of candidates ends in .parquet"),
        ("a.parquet", (), "the name of a run ends in .json"),
        ("a.json", ("--keep", "all"), "must be one of boxes, candidates"),
        ("a.json", ("--merge", "mean"), "must be one of wbf, nms, nmw"),
        ("taken.parquet", ("--keep", "candidates"), "taken.json is there"),
    ],
)
def test_what_cannot_be_kept_is_one_line_and_status_2(  # noqa: PLR0917
    model, photos, tmp_path, capsys, name, options, reason
) -> None:
    (tmp_path / "taken.json").write_text("{}")
    assert call("predict", model, photos, "--out", tmp_path / name, *options) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert reason in line
    assert [path.name for path in tmp_path.iterdir()] == ["taken.json"]
