"""What a model costs, against sums done by hand and files on disk."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from smallobj.boxes import Classes, InputError
from smallobj.detectors import Detector, DetectorConfig, Target, build_detector, describe
from smallobj.prediction import PredictConfig
from smallobj.prediction.latency import measure_latency, threads_of
from smallobj.prediction.profile import (
    ProfileConfig,
    measure_end_to_end,
    profile_detector,
    weight_sizes,
)
from smallobj.prediction.traffic import count_traffic
from smallobj.weights.checkpoint import save_weights
from smallobj.weights.manifest import WEIGHTS, Manifest

FLOAT = 4  # bytes


class OneConvolution(Detector):
    """Normalises, and convolves 3 channels to 8 by 3 x 3."""

    Config = DetectorConfig

    def __init__(self) -> None:
        config = DetectorConfig(num_classes=1, mean=(1.0,) * 3, std=(2.0,) * 3)
        super().__init__(config, stride=8)
        self.convolution = nn.Conv2d(3, 8, 3, padding=1)
        self.passes: list[tuple[int, ...]] = []

    def network(self, x: Tensor) -> dict[str, Tensor]:
        self.passes.append(tuple(x.shape))
        return {"map": self.convolution(x)}

    def losses(
        self, raw: Mapping[str, Tensor], targets: Sequence[Target], image_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        raise NotImplementedError

    def boxes(
        self, raw: Mapping[str, Tensor], image_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        batch = len(raw["map"])
        return torch.zeros(batch, 1, 1), torch.zeros(batch, 1, 4)


def test_a_convolution_is_counted_as_by_hand() -> None:
    model = nn.Conv2d(3, 8, 3, padding=1)
    counted = count_traffic(model, torch.zeros(2, 3, 16, 24))
    places = 2 * 16 * 24
    assert counted.macs == 3 * 3 * 3 * 8 * places
    assert counted.flops == 2 * counted.macs
    assert counted.operators == 1
    assert counted.weights_read == FLOAT * (3 * 3 * 3 * 8 + 8)
    assert counted.activations_read == FLOAT * 3 * places
    assert counted.activations_written == counted.peak_activations == FLOAT * 8 * places
    assert counted.moved == counted.weights_read + FLOAT * 11 * places


def test_a_linear_layer_and_its_relu_are_counted_as_by_hand() -> None:
    model = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 5))
    counted = count_traffic(model, torch.zeros(7, 10))
    assert counted.macs == 7 * (10 * 20 + 20 * 5)
    assert counted.operators == 3
    assert counted.activations_read == FLOAT * 7 * (10 + 20 + 20)
    assert counted.activations_written == FLOAT * 7 * (20 + 20 + 5)
    # before the rectified copy is used, what it was made from is gone
    assert counted.peak_activations == FLOAT * 7 * (20 + 20)


def test_views_move_nothing_and_expanded_tensors_are_read_once() -> None:
    class Views(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            turned = x.reshape(4, 6).t()[1:].unsqueeze(0)
            return turned.expand(100, -1, -1).sum()

    counted = count_traffic(Views(), torch.zeros(24))
    assert counted.operators == 1
    assert counted.activations_read == FLOAT * 24
    assert counted.activations_written == FLOAT


def test_a_batch_costs_its_number_of_images() -> None:
    detector = OneConvolution()
    found = profile_detector(
        detector, ProfileConfig(batches=(1, 3), sizes=(20,), repeats=2, warm_up=1, precision="fp32")
    )
    one, three = found.points
    assert (one.size, one.batch, three.batch) == (24, 1, 3)  # up to the stride
    assert one.traffic.macs == 3 * 3 * 3 * 8 * 24 * 24
    assert three.traffic.macs == 3 * one.traffic.macs
    assert three.traffic.activations_written == 3 * one.traffic.activations_written
    assert three.traffic.weights_read == one.traffic.weights_read
    assert detector.passes == [(1, 3, 24, 24)] * 4 + [(3, 3, 24, 24)] * 4
    assert found.parameters == 3 * 3 * 3 * 8 + 8
    plain = found.as_dict()
    assert plain["points"][1]["macs"] == three.traffic.macs
    assert plain["points"][0]["p95_ms"] >= plain["points"][0]["p50_ms"] > 0


def test_the_peak_is_less_than_all_that_is_written() -> None:
    torch.manual_seed(0)
    detector = build_detector(
        "centernet", num_classes=2, mean=(110.0,) * 3, std=(60.0,) * 3, size="tiny"
    ).eval()
    counted = count_traffic(detector, torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    outputs = detector(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    least = sum(value.numel() * FLOAT for value in outputs.values())
    assert least < counted.peak_activations < counted.activations_written


def test_sizes_are_those_of_the_files(tmp_path: Path) -> None:
    detector = build_detector(
        "fcos", num_classes=2, mean=(110.0,) * 3, std=(60.0,) * 3, size="tiny"
    )
    manifest = Manifest(
        **describe(detector), id="x", classes=Classes.of(["a", "b"]), train_crop_px=64,
        largest_object_px=20.0,
    )  # fmt: skip
    sizes = weight_sizes(detector)
    for name, dtype in (("fp32", None), ("fp16", torch.float16), ("bf16", torch.bfloat16)):
        state = {
            key: value.to(dtype) if dtype and value.is_floating_point() else value
            for key, value in detector.state_dict().items()
        }
        save_weights(tmp_path / name, state, manifest)
        assert sizes[name] == (tmp_path / name / WEIGHTS).stat().st_size
    assert sizes["fp32"] > 1.8 * sizes["fp16"]


def test_warm_up_passes_are_not_timed() -> None:
    detector = OneConvolution().eval()
    images = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
    timed = measure_latency(detector, images, precision="fp32", warm_up=2, repeats=3)
    assert len(detector.passes) == 5
    assert timed.repeats == 3
    assert 0 < timed.forward_p50_ms <= timed.p50_ms <= timed.p95_ms
    assert timed.images_a_second == pytest.approx(2000 / timed.p50_ms)


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    with threads_of(1) as count:
        assert count == torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_images_are_predicted_from_file_to_boxes(finder, picture, tmp_path: Path) -> None:
    squares = [len(picture(tmp_path / f"{i}.png", 60, 40, seed=i, most=3)) for i in range(3)]
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no")
    sources = [*(tmp_path / f"{i}.png" for i in range(3)), broken]
    seen = measure_end_to_end(finder, sources, PredictConfig(batch_size=2))
    assert (seen.images, seen.unread, seen.boxes) == (3, 1, sum(squares))
    assert seen.megapixels == pytest.approx(3 * 60 * 40 / 1e6)
    assert seen.images_a_second == pytest.approx(3 / seen.seconds)
    with pytest.raises(InputError, match="none of the 1 images can be read"):
        measure_end_to_end(finder, [broken], PredictConfig())


def test_a_batch_that_memory_does_not_hold_is_told() -> None:
    class Greedy(OneConvolution):
        def network(self, x: Tensor) -> dict[str, Tensor]:
            return {"map": torch.empty(1 << 60, dtype=torch.uint8)}

    class Faulty(OneConvolution):
        def network(self, x: Tensor) -> dict[str, Tensor]:
            raise RuntimeError("shapes differ")

    config = ProfileConfig(batches=(2,), sizes=(16,), repeats=1, warm_up=0)
    with pytest.raises(InputError, match=r"memory does not suffice.*got 2 x 16 px"):
        profile_detector(Greedy(), config)
    with pytest.raises(RuntimeError, match="shapes differ"):
        profile_detector(Faulty(), config)


def test_half_precision_counts_the_copies_that_it_makes() -> None:
    detector = OneConvolution().eval()
    images = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    whole = count_traffic(detector, images)
    with torch.autocast("cpu", torch.bfloat16):
        half = count_traffic(detector, images)
    assert half.macs == whole.macs
    assert half.operators > whole.operators


def test_wrong_settings_name_their_field() -> None:
    for field, settings in (
        ("batches", {"batches": ()}),
        ("sizes", {"sizes": (0,)}),
        ("sizes", {"sizes": (90_000,)}),
        ("repeats", {"repeats": 0}),
        ("warm_up", {"warm_up": -1}),
        ("threads", {"threads": 0}),
    ):
        with pytest.raises(InputError, match=f"field {field}"):
            ProfileConfig(**settings)
