"""How long batches are, and that a run goes on where memory does not hold one."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from smallobj.boxes import Classes, InputError
from smallobj.prediction import PredictConfig, predict, stream
from smallobj.prediction.batching import BatchSizes, out_of_memory
from smallobj.tta import Tiling, parse_views

CLASSES = Classes.of(["red", "green"])
SIZE = (640, 640)
ERRORS = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes."),
    MemoryError(),
)


@pytest.fixture
def forgetful(finder, monkeypatch):
    """A detector whose memory holds so many patches at a time."""

    def limited(most: int, error: BaseException):
        network = type(finder).network

        def tried(self, x: Tensor) -> dict[str, Tensor]:
            if len(x) > most:
                raise error
            return network(self, x)

        monkeypatch.setattr(type(finder), "network", tried)
        return finder

    return limited


@pytest.fixture
def photos(picture, tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{i}.png" for i in range(6)]
    for i, path in enumerate(paths):
        picture(path, 200, 150, seed=i)
    return paths


VIEWS = parse_views("hflip", tiling=Tiling(side_px=64, overlap_px=16))


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("wanted", [None, 7])
def test_where_memory_is_short_batches_are_halved_and_nothing_is_lost(
    finder, forgetful, photos, error, wanted
) -> None:
    ids = [path.name for path in photos]
    whole = predict(finder, photos, ids, classes=CLASSES, views=VIEWS)
    finder.batches.clear()
    limited = forgetful(3, error)
    found = predict(limited, photos, ids, classes=CLASSES, views=VIEWS, batch_size=wanted)
    assert found == whole
    lengths = [shape[0] for shape in finder.batches]
    assert max(lengths) <= 3
    notes: list[str] = []
    config = PredictConfig(views=VIEWS, batch_size=wanted)
    assert len(list(stream(limited, photos, config, on_note=notes.append))) == len(photos)
    assert len(notes) == 1
    assert "of 64 x 64 px at a time: going on with half as many" in notes[0]


def test_where_not_even_one_patch_fits_it_says_so(forgetful, photos) -> None:
    with pytest.raises(InputError, match=r"single patch: cut smaller ones .*, got 64 x 64 px"):
        list(stream(forgetful(0, ERRORS[0]), photos, PredictConfig(views=VIEWS)))


def test_another_error_is_none_of_memory(forgetful, photos) -> None:
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    assert not out_of_memory(error)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        list(stream(forgetful(2, error), photos, PredictConfig(views=VIEWS)))


def test_on_a_cpu_large_patches_go_in_short_batches() -> None:
    sizes = BatchSizes(None, gpu=False)
    assert [sizes.of((side, side)) for side in (64, 512, 640, 2048)] == [8, 4, 2, 1]
    assert BatchSizes(5, gpu=False).of((2048, 2048)) == 5


def grown(sizes: BatchSizes, rate) -> int:
    """The length that batches come to on a GPU that takes rate(length) patches a second."""
    for _ in range(40):
        length = sizes.of(SIZE)
        sizes.took(SIZE, length, length / rate(length))
    return sizes.of(SIZE)


def test_on_a_gpu_batches_double_while_that_pays() -> None:
    assert grown(BatchSizes(None, gpu=True), lambda length: min(length, 32)) == 32
    assert grown(BatchSizes(None, gpu=True), lambda length: length) == 256
    assert grown(BatchSizes(None, gpu=True), lambda _: 1.0) == 8
    assert grown(BatchSizes(12, gpu=True), lambda length: length) == 12


def test_no_batch_has_more_pixels_than_half_of_what_failed() -> None:
    sizes = BatchSizes(None, gpu=True)
    sizes.failed(SIZE, 16)
    assert sizes.of(SIZE) == 8
    assert sizes.of((1280, 1280)) == 2
    assert grown(sizes, lambda length: length) == 8
    sizes.failed(SIZE, 16)  # it was on its way before
    assert sizes.of(SIZE) == 8
    sizes.failed(SIZE, 1)
    assert sizes.of((4000, 4000)) == 1
