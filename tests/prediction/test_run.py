"""Runs on disk: whole or going on, with what could not be read told."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from smallobj.boxes import Classes, InputError
from smallobj.formats import read_run
from smallobj.prediction import (
    PredictConfig,
    find_images,
    predict,
    predict_run,
    tta_spec,
    views_of,
)
from smallobj.tta import Tiling, View, parse_views
from smallobj.weights.manifest import Manifest

CLASSES = Classes.of(["red", "green"], [7, 3])
MANIFEST = Manifest(
    id="finder",
    arch="finder",
    backbone="none",
    config={},
    classes=CLASSES,
    train_crop_px=64,
    largest_object_px=14,
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    sha256="0" * 64,
)
CONFIG = PredictConfig(views=parse_views("hflip"), batch_size=2)


@pytest.fixture
def photos(picture, tmp_path) -> Path:
    for i in range(6):
        picture(tmp_path / "photos" / f"{i}.png", 90, 70, seed=i)
    return tmp_path / "photos"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_run_holds_what_predict_finds(finder, photos, tmp_path) -> None:
    out = tmp_path / "runs" / "a.json"
    files = find_images(photos)
    summary = predict_run(finder, MANIFEST, files, out, CONFIG)
    run = read_run(out)
    expected = predict(finder, files.paths, files.ids, classes=CLASSES, views=CONFIG.views)
    assert run.table.images.ids == expected.images.ids
    assert run.table.classes == CLASSES
    assert run.table.xyxy == pytest.approx(expected.xyxy, abs=2e-3)
    assert run.table.score == pytest.approx(expected.score, abs=1e-6)
    assert run.info is not None
    assert run.info.model == "finder"
    assert run.info.views == ("identity", "hflip")
    assert run.info.cap == 300
    assert (summary.images, summary.boxes, summary.resumed) == (6, len(expected), 0)
    assert names(out.parent) == ["a.json", "a.run.toml"]


def test_tta_takes_the_flips_the_model_was_trained_with() -> None:
    names = [view.name for view in parse_views(tta_spec(MANIFEST))]
    assert names == ["identity", "hflip", "vflip", "rot180"]
    assert tta_spec(replace(MANIFEST, symmetry="mirror")) == "hflip"
    with pytest.raises(InputError, match="name some by --views"):
        tta_spec(replace(MANIFEST, symmetry="none"))


def test_an_interrupted_run_goes_on_to_the_same_file(finder, photos, tmp_path) -> None:
    whole, out = tmp_path / "whole.json", tmp_path / "runs" / "a.json"
    files = find_images(photos)
    predict_run(finder, MANIFEST, files, whole, CONFIG)
    for stop in (0, 2, 3):

        def interrupt(done: int, _: int, stop: int = stop) -> None:
            if done > stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            predict_run(finder, MANIFEST, files, out, CONFIG, on_progress=interrupt)
        assert names(out.parent) == ["a.part.jsonl"]
    finder.batches.clear()
    calls: list[tuple[int, int]] = []
    summary = predict_run(
        finder, MANIFEST, files, out, CONFIG, on_progress=lambda *done: calls.append(done)
    )
    assert summary.resumed == 4
    assert calls == [(5, 6), (6, 6)]
    assert len(finder.batches) == 2  # two images x two views, two a batch
    assert out.read_bytes() == whole.read_bytes()
    assert names(out.parent) == ["a.json", "a.run.toml"]


def test_a_run_begun_with_other_views_is_not_mixed(finder, photos, tmp_path) -> None:
    files, out = find_images(photos), tmp_path / "a.json"

    def interrupt(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_run(finder, MANIFEST, files, out, CONFIG, on_progress=interrupt)
    with pytest.raises(InputError, match="other settings"):
        predict_run(finder, MANIFEST, files, out, PredictConfig())


def test_a_broken_image_stops_the_run_and_writes_none(finder, photos, tmp_path) -> None:
    (photos / "3.png").write_bytes(b"")
    out = tmp_path / "runs" / "a.json"
    with pytest.raises(InputError, match=r"3\.png: .*not written.*--max-bad"):
        predict_run(finder, MANIFEST, find_images(photos), out, CONFIG)
    assert not out.exists()


def test_broken_images_are_left_out_and_listed(finder, photos, tmp_path) -> None:
    bad = photos / "3\t[bold]\n.png"
    (photos / "3.png").rename(bad)
    bad.write_bytes(b"no image")
    out = tmp_path / "runs" / "a.json"
    summary = predict_run(finder, MANIFEST, find_images(photos), out, CONFIG, max_bad=1)
    assert [skipped.id for skipped in summary.skipped] == [bad.name]
    assert bad.name not in json.loads(out.read_text())
    rows = (out.parent / "a.skipped.tsv").read_text().splitlines()
    assert rows[0] == "image\treason"
    assert rows[1].startswith("3\\t[bold]\\n.png\tis no image")
    assert len(rows) == 2
    bad.unlink()
    predict_run(finder, MANIFEST, find_images(photos), out, CONFIG)
    assert names(out.parent) == ["a.json", "a.run.toml"]


def test_more_broken_images_than_allowed_stop_the_run(finder, photos, tmp_path) -> None:
    for i in (1, 4):
        (photos / f"{i}.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="2 images so far"):
        predict_run(finder, MANIFEST, find_images(photos), tmp_path / "a.json", CONFIG, max_bad=1)
    assert not (tmp_path / "a.json").exists()


def test_an_empty_answer_is_an_empty_list(finder, picture, tmp_path) -> None:
    picture(tmp_path / "in" / "a.png", 40, 40, most=0)
    predict_run(finder, MANIFEST, find_images(tmp_path / "in"), tmp_path / "a.json", CONFIG)
    assert json.loads((tmp_path / "a.json").read_text()) == {"a.png": []}


@pytest.mark.parametrize("name", ["runs", "a.txt", "file/a.json"])
def test_an_output_that_cannot_be_written_is_told_first(finder, photos, tmp_path, name) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError):
        predict_run(finder, MANIFEST, find_images(photos), tmp_path / name, CONFIG)
    assert finder.batches == []


def test_tiles_follow_the_model() -> None:
    tiling = Tiling(side_px=640, overlap_px=16)
    assert views_of(MANIFEST, 8) == (View(tiling=tiling),)
    assert views_of(MANIFEST, 8, tile="0") == (View(),)
    assert views_of(MANIFEST, 8, tile="100", overlap_px=30) == (
        View(tiling=Tiling(side_px=100, overlap_px=30)),
    )
    assert views_of(MANIFEST, 8, spec="whole") == (View(tiling=tiling), View(whole_px=640))


@pytest.mark.parametrize(
    ("tile", "overlap", "reason"),
    [
        ("big", None, "auto, 0 or a number"),
        ("-5", None, "auto, 0 or a number"),
        ("0", 10, "no overlap without tiles"),
        ("64", 64, "between 0 and"),
        ("64", -1, "between 0 and"),
    ],
)
def test_tiles_that_cannot_be_are_refused(tile: str, overlap: int | None, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        views_of(MANIFEST, 8, tile=tile, overlap_px=overlap)
