"""What every registered detector promises, in its tiny size; a new one is tested by its name."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from smallobj.boxes import Classes
from smallobj.detectors import (
    Candidates,
    Detector,
    Target,
    describe,
    detector_class,
    list_detectors,
    load_detector,
)
from smallobj.weights import Manifest
from smallobj.weights.checkpoint import save_weights

Build = Callable[..., Detector]

pytestmark = pytest.mark.parametrize("name", list_detectors())

NO_BOXES = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))


def target(*boxes: list[float]) -> Target:
    return Target(torch.tensor(boxes, dtype=torch.float32), torch.arange(len(boxes)) % 2)


def noise(count: int, height: int = 96, width: int = 128) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=random)


def train_step(detector: Detector, images: Tensor, targets: list[Target]) -> dict[str, Tensor]:
    losses = detector(images, targets)
    torch.stack(list(losses.values())).sum().backward()
    return losses


def assert_sound(losses: dict[str, Tensor], detector: Detector) -> None:
    for key, loss in losses.items():
        assert loss.shape == (), key
        assert loss.dtype == torch.float32, key
        assert bool(torch.isfinite(loss)), key
        assert float(loss.detach()) >= 0, key
    for key, weight in detector.named_parameters():
        # A parameter without gradient would make distributed training wait for ever.
        assert weight.grad is not None, key
        assert bool(torch.isfinite(weight.grad).all()), key


TARGETS = {
    "no boxes": [NO_BOXES, NO_BOXES],
    "one empty image": [NO_BOXES, target([10, 20, 40, 60])],
    "one-pixel box": [target([33, 41, 34, 42]), target([0, 0, 1, 1], [127, 95, 128, 96])],
    "thin box": [target([5, 50, 120, 50.5]), target([7.25, 3, 7.5, 90])],
    "at the borders": [target([0, 0, 128, 96], [0, 0, 20, 20]), target([100, 60, 128, 96])],
    "beyond the borders": [target([-9, -9, 12, 12], [120, 90, 150, 120]), NO_BOXES],
    "same place": [target([30, 30, 60, 60], [30, 30, 60, 60]), target(*[[8, 8, 40, 40]] * 9)],
}


@pytest.mark.parametrize("case", TARGETS)
def test_losses_and_gradients_are_finite(name: str, case: str, tiny: Build) -> None:
    detector = tiny(name)
    assert_sound(train_step(detector, noise(2), TARGETS[case]), detector)


@pytest.mark.parametrize("value", [0, 255])
def test_an_image_of_one_colour_gives_finite_losses(name: str, value: int, tiny: Build) -> None:
    detector = tiny(name)
    images = torch.full((2, 3, 64, 64), value, dtype=torch.uint8)
    assert_sound(train_step(detector, images, [target([5, 5, 30, 30]), NO_BOXES]), detector)


def test_mixed_precision_keeps_losses_in_float32(name: str, tiny: Build) -> None:
    detector = tiny(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = train_step(detector, noise(2), TARGETS["one-pixel box"])
        raw = detector(noise(1))
    assert_sound(losses, detector)
    assert all(tensor.dtype == torch.float32 for tensor in raw.values())


def test_inputs_are_left_as_they_were(name: str, tiny: Build) -> None:
    images, targets = noise(2), TARGETS["at the borders"]
    before = images.clone(), copy.deepcopy(targets)
    tiny(name)(images, targets)
    assert torch.equal(images, before[0])
    for after, kept in zip(targets, before[1], strict=True):
        assert torch.equal(after.xyxy, kept.xyxy)
        assert torch.equal(after.label, kept.label)


def test_raw_is_of_fixed_meaning(name: str, tiny: Build) -> None:
    detector = tiny(name)
    shapes = {key: value.shape for key, value in detector(noise(3)).items()}
    evaluated = detector.eval()(noise(3))
    assert {key: value.shape for key, value in evaluated.items()} == shapes
    assert all(shape[0] == 3 for shape in shapes.values())
    assert all(value.dtype == torch.float32 for value in evaluated.values())


@torch.no_grad()
def test_a_batch_gives_what_single_images_give(name: str, tiny: Build) -> None:
    detector, images = tiny(name).eval(), noise(3)
    batch = detector(images)
    for i in range(3):
        single = detector(images[i : i + 1])
        for key, value in single.items():
            torch.testing.assert_close(batch[key][i : i + 1], value, rtol=1e-4, atol=1e-4)
    together = detector.decode(batch, (96, 128))
    for i, candidates in enumerate(together):
        alone = detector.decode({key: value[i : i + 1] for key, value in batch.items()}, (96, 128))
        torch.testing.assert_close(candidates.score, alone[0].score)
        # A processor may round the last places of a vector otherwise: near ties change places.
        same = torch.isclose(candidates.xyxy, alone[0].xyxy, atol=1e-3).all(dim=1)
        same &= candidates.label == alone[0].label
        assert int((~same).sum()) <= len(same) / 100


def assert_candidates(candidates: Candidates, height: int, width: int, limit: int) -> None:
    xyxy, score, label = candidates
    assert len(xyxy) == len(score) == len(label) <= limit
    assert xyxy.dtype == score.dtype == torch.float32
    assert label.dtype == torch.int64
    assert bool((score[:-1] >= score[1:]).all())
    assert bool(((score >= 0.001) & (score <= 1)).all())
    assert bool(((label >= 0) & (label < 2)).all())
    assert bool((xyxy >= 0).all())
    assert bool((xyxy[:, 2:] <= torch.tensor([width, height])).all())
    assert bool((xyxy[:, 2:] > xyxy[:, :2]).all())


@torch.no_grad()
@pytest.mark.parametrize("limit", [1000, 7])
def test_candidates_are_inside_sorted_and_few(name: str, limit: int, tiny: Build) -> None:
    detector = tiny(name, max_candidates=limit).eval()
    for images in (noise(2, 96, 160), torch.zeros_like(noise(2, 160, 96))):
        height, width = images.shape[2:]
        found = detector.decode(detector(images), (height, width))
        assert len(found) == 2
        for candidates in found:
            assert_candidates(candidates, height, width, limit)
            assert not candidates.xyxy.requires_grad


@torch.no_grad()
def test_wild_raw_values_still_give_boxes_inside(name: str, tiny: Build) -> None:
    detector = tiny(name).eval()
    random = torch.Generator().manual_seed(1)
    for scale in (10.0, 1e4):
        raw = {
            key: torch.randn(value.shape, generator=random) * scale
            for key, value in detector(noise(1)).items()
        }
        assert_candidates(detector.decode(raw, (96, 128))[0], 96, 128, 1000)


def test_nothing_is_found_above_a_score_that_nothing_reaches(name: str, tiny: Build) -> None:
    detector = tiny(name, min_score=0.99).eval()
    with torch.no_grad():
        candidates = detector.decode(detector(noise(1)), (96, 128))[0]
    assert [tuple(c.shape) for c in candidates] == [(0, 4), (0,), (0,)]


def test_the_seed_decides_the_weights(name: str, tiny: Build) -> None:
    a, b, other = (tiny(name, seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert any(not torch.equal(a[key], other[key]) for key in a)


def test_a_step_is_repeatable(name: str, tiny: Build) -> None:
    steps = [train_step(tiny(name), noise(2), TARGETS["at the borders"]) for _ in range(2)]
    assert all(torch.equal(steps[0][key], steps[1][key]) for key in steps[0])


@torch.no_grad()
def test_saved_and_loaded_gives_the_same(name: str, tiny: Build, tmp_path: Path) -> None:
    detector = tiny(name, min_score=0.002)
    detector(noise(4))  # moves batch norm's statistics off their start
    manifest = Manifest(
        id="a",
        **describe(detector),
        classes=Classes.of(["nut", "bolt"]),
        train_crop_px=128,
        largest_object_px=60,
    )
    written = save_weights(tmp_path, detector.state_dict(), manifest)
    generator = torch.get_rng_state()
    loaded, read = load_detector(tmp_path)
    assert torch.equal(torch.get_rng_state(), generator)
    assert read == written
    assert loaded.config == detector.config
    assert not loaded.training
    expected = detector.eval()(noise(2))
    found = loaded(noise(2))
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_a_copy_is_a_detector_of_its_own(name: str, tiny: Build) -> None:
    detector = tiny(name)
    twin = copy.deepcopy(detector)
    with torch.no_grad():
        for weight in twin.parameters():
            weight.zero_()
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            detector.state_dict().values(), tiny(name).state_dict().values(), strict=True
        )
    )


@torch.no_grad()
def test_forward_is_exported(name: str, tiny: Build) -> None:
    detector = tiny(name).eval()
    exported = torch.export.export(detector, (noise(1),)).module()
    expected = detector(noise(1))
    found = exported(noise(1))
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-4)


def test_it_comes_in_sizes_from_tiny_up(name: str) -> None:
    sizes = list(detector_class(name).Config.SIZES)
    assert sizes[0] == "tiny"
    assert len(sizes) >= 4
