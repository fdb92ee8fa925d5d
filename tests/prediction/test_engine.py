"""The whole pipeline with a detector that finds coloured squares exactly."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from smallobj.boxes import BoxTable, Classes, InputError
from smallobj.detectors import Target, build_detector
from smallobj.prediction import (
    PredictConfig,
    choose_device,
    feeding,
    predict,
    stream,
    threads_of,
)
from smallobj.tta import MERGES, Tiling, View, parse_views

CLASSES = Classes.of(["red", "green"])
SIZES = [(200, 150), (151, 97), (64, 64), (333, 40), (40, 310), (13, 13)]
EXACT = [
    "identity",
    "d4",
    "hflip,whole=90",
    "only:tile=64:16,rotations",
    "scale=2",
    "only:scale=3,only:rot90",
    "flips,scale=2,whole=100|tile=80:20",
    "hflip,brightness=0.8|1.2,contrast=1.1,only:tile=64:16|200",
]


def rows(table: BoxTable, image: int) -> np.ndarray:
    part = table.rows(image)
    found = np.column_stack([table.label[part], table.xyxy[part]])
    return found[np.lexsort(found.T[::-1])]


@pytest.mark.parametrize(
    ("spec", "merge"), [*((spec, "wbf") for spec in EXACT), (EXACT[-1], "nms"), (EXACT[-1], "nmw")]
)
def test_every_square_is_found_once_and_exactly(spec, merge, finder, picture, tmp_path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(len(SIZES))]
    truth = [picture(p, *SIZES[i], seed=i) for i, p in enumerate(paths)]
    table = predict(
        finder,
        paths,
        [p.name for p in paths],
        classes=CLASSES,
        views=parse_views(spec),
        merge=merge,
    )
    assert table.score is not None
    assert list(table.images.width) == [w for w, _ in SIZES]
    assert list(table.images.height) == [h for _, h in SIZES]
    for i, expected in enumerate(truth):
        found = rows(table, i)
        assert len(found) == len(expected)
        exact = "whole" not in spec
        assert found == pytest.approx(np.array(expected, float), abs=1e-4 if exact else 1.0)
    assert table.score == pytest.approx(0.8)


def test_scaled_squares_come_back_to_half_a_pixel_of_the_patch(finder, picture, tmp_path) -> None:
    path = tmp_path / "a.png"
    truth = picture(path, 301, 203, side=24)
    for scale in (0.5, 0.75, 1.3):
        table = predict(finder, [path], ["a"], classes=CLASSES, views=(View(scale=scale),))
        off = np.abs(rows(table, 0) - np.array(truth))
        assert off.max() <= 0.5 / scale + 1e-6


@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize("by", [(1, 1), (3, 2), (2, 5), (4, 1)])
def test_squashed_squares_come_back_exactly(by, merge, finder, picture, tmp_path) -> None:
    """Photographs so many times as wide and as high as what they are squashed to: no rounding."""
    small, path = tmp_path / "small.png", tmp_path / "a.png"
    truth = np.array(picture(small, 120, 120, seed=by[0]), float)
    with Image.open(small) as image:
        image.resize((120 * by[0], 120 * by[1]), Image.Resampling.NEAREST).save(path)
    truth[:, 1:] *= by * 2
    views = parse_views("flips,brightness=0.9", squash_px=120)
    table = predict(finder, [path], ["a"], classes=CLASSES, views=views, merge=merge)
    assert set(finder.batches) == {(8, 3, 120, 120)}
    assert (rows(table, 0) == truth[np.lexsort(truth.T[::-1])]).all()
    assert table.score == pytest.approx(0.8)


def test_squashed_squares_come_back_to_half_a_pixel_of_the_patch(finder, picture, tmp_path) -> None:
    for i, size in enumerate([(301, 203), (203, 301), (150, 640), (97, 31), (13, 13)]):
        path = tmp_path / f"{i}.png"
        truth = np.array(picture(path, *size, side=min(24, size[1] - 1)), float)
        views = parse_views("d4", squash_px=157)  # patches are padded to 160
        table = predict(finder, [path], ["a"], classes=CLASSES, views=views)
        off = np.abs(rows(table, 0) - truth[np.lexsort(truth.T[::-1])])
        assert (off[:, 1:] <= np.array([*size, *size]) / 157 / 2 + 1e-6).all()


def test_batch_size_and_company_change_nothing(finder, picture, tmp_path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(12)]
    for i, path in enumerate(paths):
        picture(path, *SIZES[i % len(SIZES)], seed=i)
    ids, views = (
        [p.name for p in paths],
        parse_views("hflip", tiling=Tiling(side_px=64, overlap_px=16)),
    )
    one = predict(finder, paths, ids, classes=CLASSES, views=views, batch_size=1)
    many = predict(finder, paths, ids, classes=CLASSES, views=views, batch_size=7)
    assert one == many


def test_patches_of_one_size_share_a_batch_across_views_and_images(
    finder, picture, tmp_path
) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(6)]
    for path in paths:
        picture(path, 60, 60)
    predict(finder, paths, [p.name for p in paths], classes=CLASSES, views=parse_views("d4"))
    assert finder.batches == [(8, 3, 64, 64)] * 6


def test_padding_has_the_neutral_colour(finder, picture, tmp_path) -> None:
    """The mean of the training images fills what is beyond the image: here it is green."""
    picture(tmp_path / "a.png", 20, 20, most=0)
    finder.mean[:, 1] = 200.0
    seen = []
    finder.network = lambda x: seen.append(x) or {"pixels": x * 0}
    predict(finder, [tmp_path / "a.png"], ["a"], classes=CLASSES)
    (x,) = seen
    assert x.shape == (1, 3, 24, 24)
    assert (x[0, :, 20:] == 0).all()
    assert (x[0, :, :, 20:] == 0).all()
    assert (x[0, 1, :20, :20] == -200).all()


def test_the_cap_keeps_the_best(finder, picture, tmp_path) -> None:
    truth = picture(tmp_path / "a.png", 300, 300)
    table = predict(finder, [tmp_path / "a.png"], ["a"], classes=CLASSES, max_boxes=3)
    assert len(table) == 3 < len(truth)


def test_no_images_is_an_empty_table(finder) -> None:
    assert predict(finder, [], [], classes=CLASSES) == predict(finder, [], [], classes=CLASSES)


def test_a_broken_image_is_an_error_in_one_line(finder, picture, tmp_path) -> None:
    picture(tmp_path / "a.png", 64, 64)
    (tmp_path / "b.png").write_bytes(b"no image")
    before = threading.active_count()
    with pytest.raises(InputError, match=r"b\.png"):
        predict(finder, [tmp_path / "a.png", tmp_path / "b.png"], ["a", "b"], classes=CLASSES)
    assert threading.active_count() == before


def test_a_broken_image_does_not_stop_the_stream(finder, picture, tmp_path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for path in paths:
        picture(path, 64, 64)
    paths[2].write_bytes(paths[2].read_bytes()[:90])
    seen = {s.image: s for s in stream(finder, paths, PredictConfig())}
    assert sorted(seen) == [0, 1, 2, 3, 4]
    assert [i for i, s in seen.items() if s.error] == [2]


def test_threads_end_when_the_reader_stops(finder, picture, tmp_path) -> None:
    picture(tmp_path / "a.png", 64, 64)
    before = threading.active_count()
    found = stream(finder, [tmp_path / "a.png"] * 50, PredictConfig(batch_size=1))
    next(found)
    found.close()
    assert threading.active_count() == before


def test_too_large_an_image_is_refused_by_its_header(finder, picture, tmp_path) -> None:
    picture(tmp_path / "a.png", 200, 200)
    (seen,) = stream(finder, [tmp_path / "a.png"], PredictConfig(max_megapixels=0.03))
    assert "larger than 0.03 megapixels" in str(seen.error)


def test_progress_counts_every_image(finder, picture, tmp_path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path in paths:
        picture(path, 64, 64)
    calls: list[tuple[int, int]] = []
    predict(
        finder, paths, list("abc"), classes=CLASSES, on_progress=lambda *done: calls.append(done)
    )
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_an_error_in_the_detector_reaches_the_caller(finder, picture, tmp_path) -> None:
    picture(tmp_path / "a.png", 64, 64)
    finder.network = lambda _: 1 / 0
    with pytest.raises(ZeroDivisionError):
        predict(finder, [tmp_path / "a.png"], ["a"], classes=CLASSES)


def test_wrong_ids_and_classes_are_refused(finder) -> None:
    with pytest.raises(ValueError, match="ids"):
        predict(finder, [Path("a")], [], classes=CLASSES)
    with pytest.raises(ValueError, match="classes"):
        predict(finder, [], [], classes=Classes.of(["one"]))


@pytest.mark.parametrize(
    "settings",
    [
        {"batch_size": 0},
        {"max_boxes": 0},
        {"nms_iou": 0.0},
        {"nms_iou": float("nan")},
        {"views": ()},
        {"precision": "fp8"},
        {"merge": "mean"},
        {"keep": "all"},
        {"max_megapixels": -1.0},
    ],
)
def test_settings_that_cannot_be_are_refused(settings) -> None:
    with pytest.raises(InputError):
        PredictConfig(**settings)


def test_an_unknown_device_is_refused() -> None:
    for name in ("warp", "cuda:99"):
        with pytest.raises(InputError, match=name):
            choose_device(name)


@pytest.mark.parametrize("arch", ["centernet", "fcos"])
def test_a_real_detector_predicts_and_goes_on_learning(arch, tmp_path) -> None:
    torch.manual_seed(0)
    detector = build_detector(
        arch, num_classes=2, mean=(120.0,) * 3, std=(60.0,) * 3, size="tiny"
    ).train()
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path in paths:
        Image.fromarray(rng.integers(0, 255, (70, 90, 3), dtype=np.uint8)).save(path)
    ids, state = list("abc"), {k: v.clone() for k, v in detector.state_dict().items()}
    first = predict(detector, paths, ids, classes=CLASSES, views=parse_views("flips"))
    again = predict(detector, paths, ids, classes=CLASSES, views=parse_views("flips"))
    assert first == again
    assert detector.training
    assert all(torch.equal(v, state[k]) for k, v in detector.state_dict().items())
    images = torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)
    target = Target(torch.tensor([[8.0, 8, 40, 40]]), torch.tensor([1]))
    loss = sum(detector(images, [target, target]).values())
    loss.backward()


def test_what_reads_ahead_leaves_the_threads_to_the_network(monkeypatch, tmp_path) -> None:
    """And when it is done, threads are begun with as many as before."""
    read, had = feeding.read_image, []

    def reading(*arguments, **settings):
        had.append(torch.get_num_threads())
        return read(*arguments, **settings)

    monkeypatch.setattr(feeding, "read_image", reading)
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    detector = build_detector(
        "centernet", num_classes=2, mean=(110.0,) * 3, std=(60.0,) * 3, size="tiny"
    )
    with threads_of(3):
        predict(detector, [tmp_path / "a.png"] * 2, ["a", "b"], classes=Classes.of(["a", "b"]))
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == 3
        assert torch.get_num_threads() == 3
    assert had == [1, 1]
