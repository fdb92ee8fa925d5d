"""Runs on disk: whole or going on, with what could not be read told."""

import json
import os
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from smallobj.boxes import Classes, InputError
from smallobj.formats import RunInfo, read_run
from smallobj.prediction import (
    PredictConfig,
    Seen,
    find_images,
    merge_kept,
    predict,
    predict_run,
    tta_spec,
    views_of,
)
from smallobj.prediction.part import PartFile, Stamp
from smallobj.prediction.writing import write_found
from smallobj.tta import Boxes, Tiling, View, parse_views
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
    weight_bytes=2_500_000,
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
    assert run.info.weight_mb == 2.5
    assert run.info.latency_ms == pytest.approx(1000 * summary.seconds / 6, abs=1e-3)
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


def test_a_broken_image_is_listed_and_everything_else_is_written(finder, photos, tmp_path) -> None:
    bad = photos / "3\t[bold]\n\\.png"
    (photos / "3.png").rename(bad)
    bad.write_bytes(b"no image")
    out, bad_id = tmp_path / "runs" / "a.json", "3\t[bold]\n/.png"
    summary = predict_run(finder, MANIFEST, find_images(photos), out, CONFIG)
    assert summary.too_many
    assert summary.images == 5
    assert [skipped.id for skipped in summary.skipped] == [bad_id]
    assert sorted(json.loads(out.read_text())) == ["0.png", "1.png", "2.png", "4.png", "5.png"]
    rows = (out.parent / "a.skipped.tsv").read_text().splitlines()
    assert rows[0] == "image\treason"
    assert rows[1].startswith("3\\t[bold]\\n/.png\tis no image")
    assert len(rows) == 2
    tolerant = predict_run(finder, MANIFEST, find_images(photos), out, CONFIG, max_bad=1)
    assert not tolerant.too_many
    assert names(out.parent) == ["a.json", "a.run.toml", "a.skipped.tsv"]
    bad.unlink()
    predict_run(finder, MANIFEST, find_images(photos), out, CONFIG)
    assert names(out.parent) == ["a.json", "a.run.toml"]


def test_a_broken_image_once_mended_is_all_that_is_predicted_again(
    finder, photos, picture, tmp_path
) -> None:
    whole, out = tmp_path / "whole.json", tmp_path / "runs" / "a.json"
    files = find_images(photos)
    predict_run(finder, MANIFEST, files, whole, CONFIG)
    good = (photos / "3.png").read_bytes()
    (photos / "3.png").write_bytes(good[:-20])
    assert predict_run(finder, MANIFEST, files, out, CONFIG).too_many
    assert names(out.parent) == ["a.json", "a.part.jsonl", "a.run.toml", "a.skipped.tsv"]
    (photos / "3.png").write_bytes(good)
    finder.batches.clear()
    assert predict_run(finder, MANIFEST, files, out, CONFIG).resumed == 5
    assert len(finder.batches) == 1
    assert out.read_bytes() == whole.read_bytes()
    assert names(out.parent) == ["a.json", "a.run.toml"]


def test_what_is_left_of_a_written_run_does_not_stop_other_views(finder, photos, tmp_path) -> None:
    """But of a run that was stopped it does: nothing else holds what was found."""
    (photos / "3.png").write_bytes(b"no image")
    files, out = find_images(photos), tmp_path / "runs" / "a.json"
    assert predict_run(finder, MANIFEST, files, out, CONFIG).too_many
    other = predict_run(finder, MANIFEST, files, out, PredictConfig())
    assert (other.resumed, other.images) == (0, 5)
    assert names(out.parent) == ["a.json", "a.part.jsonl", "a.run.toml", "a.skipped.tsv"]
    part = out.with_name("a.part.jsonl")
    later = out.stat().st_mtime_ns + 10**9
    os.utime(part, ns=(later, later))
    with pytest.raises(InputError, match="other settings"):
        predict_run(finder, MANIFEST, files, out, CONFIG)


def test_an_image_changed_since_the_run_was_stopped_is_predicted_again(
    finder, photos, picture, tmp_path
) -> None:
    files, out = find_images(photos), tmp_path / "a.json"

    def interrupt(done: int, _: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_run(finder, MANIFEST, files, out, CONFIG, on_progress=interrupt)
    squares = picture(photos / "0.png", 100, 80, seed=77)
    assert predict_run(finder, MANIFEST, files, out, CONFIG).resumed == 3
    assert len(json.loads(out.read_text())["0.png"]) == len(squares)


def test_names_no_answer_can_hold_are_listed_too(finder, photos, tmp_path) -> None:
    with open(os.fsencode(photos) + b"/\xff.png", "wb"):
        pass
    out = tmp_path / "a.json"
    summary = predict_run(finder, MANIFEST, find_images(photos), out, CONFIG)
    assert (summary.images, summary.too_many) == (6, True)
    rows = (tmp_path / "a.skipped.tsv").read_text().splitlines()
    assert rows[1].startswith("\\xff.png\tname is not UTF-8")


def test_where_no_image_can_be_read_no_run_is_written(finder, tmp_path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"no image")
    out = tmp_path / "runs" / "a.json"
    summary = predict_run(finder, MANIFEST, find_images(tmp_path / "in"), out, CONFIG, max_bad=9)
    assert (summary.images, summary.written, summary.too_many) == (0, False, False)
    assert names(out.parent) == ["a.skipped.tsv"]


def test_an_archive_gives_what_its_folder_gives(finder, photos, tmp_path) -> None:
    folder, archived = tmp_path / "folder.json", tmp_path / "archived.json"
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in sorted(photos.iterdir()):
            archive.write(path, path.name)
    predict_run(finder, MANIFEST, find_images(photos), folder, CONFIG)
    predict_run(finder, MANIFEST, find_images(tmp_path / "a.zip"), archived, CONFIG)
    assert archived.read_bytes() == folder.read_bytes()


def test_a_list_is_written_in_natural_order(finder, photos, tmp_path) -> None:
    (photos / "list.txt").write_text("5.png\n1.png\n3.png\n")
    out = tmp_path / "a.json"
    predict_run(finder, MANIFEST, find_images(photos / "list.txt"), out, CONFIG)
    assert list(json.loads(out.read_text())) == ["1.png", "3.png", "5.png"]


def test_the_final_write_takes_the_same_memory_for_any_number_of_images(tmp_path) -> None:
    """Ten times the images and boxes: the peak of the last pass grows by little more than names."""
    boxes = Boxes(np.tile([1.0, 2, 30, 40], (50, 1)), np.full(50, 0.5), np.zeros(50, np.int32))
    info = RunInfo(model="finder", classes=CLASSES)
    peaks, sizes = [], []
    for count in (300, 3000):
        ids = tuple(f"{i:05d}.jpg" for i in range(count))
        with PartFile(tmp_path / f"{count}.part.jsonl", {}, ids) as part:
            for i in range(count):
                part.append(count - 1 - i, Seen(0, 64, 48, boxes), 0.0, Stamp(1, 1))
            tracemalloc.start()
            assert write_found(tmp_path / f"{count}.json", part, ids, info) == 50 * count
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        sizes.append((tmp_path / f"{count}.json").stat().st_size)
    assert sizes[1] > 9.9 * sizes[0]
    assert peaks[1] - peaks[0] < 2700 * 64  # two whole numbers an image
    rows = json.loads((tmp_path / "3000.json").read_text())
    assert list(rows) == [f"{i:05d}.jpg" for i in range(3000)]
    assert rows["02999.jpg"][0] == [7, 1.0, 2.0, 29.0, 38.0, 0.5]


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


def test_a_model_of_squashed_images_sees_each_squashed() -> None:
    squashed = replace(MANIFEST, input="squash")
    assert views_of(squashed, 8) == (View(squash_px=64),)
    names = [view.name for view in views_of(squashed, 8, spec=tta_spec(squashed))]
    assert names == ["squash=64", "hflip,squash=64", "vflip,squash=64", "rot180,squash=64"]
    by_hand = views_of(squashed, 8, spec="only:tile=50:10")
    assert by_hand == (View(tiling=Tiling(side_px=50, overlap_px=10)),)
    for tile, overlap in (("100", None), ("0", None), ("auto", 10)):
        with pytest.raises(InputError, match="squashed to 64 px; --views only:tile=N tiles them"):
            views_of(squashed, 8, tile=tile, overlap_px=overlap)


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


def test_an_interrupted_run_of_candidates_goes_on_to_the_same_boxes(
    finder, photos, tmp_path
) -> None:
    whole, out = tmp_path / "whole" / "a.parquet", tmp_path / "runs" / "a.parquet"
    files, config = find_images(photos), replace(CONFIG, keep="candidates")
    predict_run(finder, MANIFEST, files, whole, config)

    def interrupt(done: int, _: int) -> None:
        if done > 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_run(finder, MANIFEST, files, out, config, on_progress=interrupt)
    assert names(out.parent) == ["a.part.jsonl"]
    with pytest.raises(InputError, match="other settings"):  # boxes are not mixed in
        predict_run(finder, MANIFEST, files, out.with_suffix(".json"), CONFIG)
    assert predict_run(finder, MANIFEST, files, out, config).resumed == 3
    assert names(out.parent) == ["a.parquet", "a.run.toml"]
    found = read_run(out).table
    assert found == read_run(whole).table
    in_memory = predict(
        finder, files.paths, files.ids, classes=CLASSES, views=CONFIG.views, keep="candidates"
    )
    assert [source.view for source in found.sources] == ["identity", "hflip"]
    assert found.xyxy == pytest.approx(in_memory.xyxy, abs=1e-6)
    assert (found.score == in_memory.score.round(12)).all()
    assert (found.source == in_memory.source).all()
    assert (found.images.width == 90).all()


def test_nothing_found_anywhere_is_a_run_of_candidates_too(finder, picture, tmp_path) -> None:
    picture(tmp_path / "photos" / "a.png", 40, 30, most=0)
    out, config = tmp_path / "a.parquet", replace(CONFIG, keep="candidates")
    predict_run(finder, MANIFEST, find_images(tmp_path / "photos"), out, config)
    run = read_run(out)
    assert run.table.images.ids == ("a.png",)
    assert len(run.table) == 0
    assert run.info is not None
    assert run.info.candidates
    table = replace(run.table, source=np.empty(0, np.int32))
    assert len(merge_kept(table, run.info.views, CONFIG)) == 0
