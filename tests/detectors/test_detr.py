"""RT-DETR and D-FINE: transformers' parts, held to transformers' whole models."""

import copy
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from smallobj.boxes import InputError
from smallobj.detectors import Detector, Target, build_detector
from smallobj.detectors.detr import Detr, in_parts
from smallobj.detectors.places import Positions, anchors

Build = Callable[..., Detector]

FAMILIES = ("rtdetr", "dfine")
SIDE = 64


def detr(tiny: Build, name: str, **overrides: Any) -> Detr:
    detector = tiny(name, **overrides)
    assert isinstance(detector, Detr)
    return detector


def batch() -> tuple[Tensor, list[Target]]:
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, SIDE, SIDE), dtype=torch.uint8, generator=random)
    boxes = torch.tensor([[5.0, 8, 25, 20], [30, 31, 60, 55], [-9, 40, 12, 70]])
    return images, [Target(boxes, torch.tensor([0, 1, 1])), Target(boxes[:1], torch.tensor([1]))]


class OurPyramid(nn.Module):
    """A pyramid where transformers' models have their backbone."""

    def __init__(self, detector: Detr) -> None:
        super().__init__()
        self.body = detector.body

    def forward(self, x: Tensor, mask: Tensor) -> list[tuple[Tensor, None]]:
        return [(level, None) for level in self.body(x)]


def whole_model(detector: Detr) -> Any:
    """transformers' own model, of the same weights and with the same first boxes."""
    import transformers

    settings = copy.deepcopy(detector.settings)
    settings.backbone_config = transformers.RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 8], depths=[1, 1, 1], out_indices=[1, 2, 3]
    )
    model = getattr(transformers, f"{detector.prefix}ForObjectDetection")(settings)
    model.train(detector.training)
    inner = model.model
    inner.backbone, inner.encoder_input_proj = OurPyramid(detector), detector.project
    inner.encoder, inner.decoder_input_proj = detector.encoder, detector.lanes
    inner.decoder, inner.denoising_class_embed = detector.decoder, detector.labels
    inner.enc_output, inner.enc_score_head = detector.select.mix, detector.select.score
    inner.enc_bbox_head = detector.select.box
    return model


def with_the_librarys_anchors(tiny: Build, name: str) -> Detr:
    """A level's first guess is a twentieth of the image at the finest level there."""
    return detr(tiny, name, anchor_strides=0.05 * SIDE / 4)


@pytest.mark.parametrize("name", FAMILIES)
def test_raw_is_what_the_librarys_model_says(name: str, tiny: Build) -> None:
    detector = with_the_librarys_anchors(tiny, name).eval()
    model, (images, _) = whole_model(detector), batch()
    with torch.no_grad():
        raw, said = detector(images), model(detector.normalise(images))
    for mine, wanted in ((raw["logits"], said.logits), (raw["boxes"], said.pred_boxes)):
        # The library's queries come best first, ours in the order of their places.
        for i in range(len(images)):
            apart = torch.cdist(mine[i], wanted[i], p=1)
            assert float(apart.min(dim=0).values.max()) < 1e-4
            assert float(apart.min(dim=1).values.max()) < 1e-4


def test_the_loss_is_the_librarys(tiny: Build) -> None:
    detector = with_the_librarys_anchors(tiny, "rtdetr")
    model, (images, targets) = whole_model(detector), batch()
    torch.manual_seed(1)  # of the noise of denoising
    losses = detector(images, targets)
    torch.manual_seed(1)
    said = model(detector.normalise(images), labels=in_parts(targets, (SIDE, SIDE)))
    assert len(said.loss_dict) > 12
    torch.testing.assert_close(torch.stack(list(losses.values())).sum(), said.loss)


@pytest.mark.parametrize("denoising", [0, 20])
def test_class_and_box_losses_are_the_librarys_where_a_layer_is_alone(
    denoising: int, tiny: Build
) -> None:
    """Of D-FINE's last layer, whatever is learnt beside it."""
    detector = with_the_librarys_anchors(lambda n, **o: tiny(n, denoising=denoising, **o), "dfine")
    model, (images, targets) = whole_model(detector), batch()
    labels = in_parts(targets, (SIDE, SIDE))
    said = model(detector.normalise(images), labels=labels)
    losses = detector.losses(detector(images), targets, (SIDE, SIDE))
    for kind, loss in losses.items():
        torch.testing.assert_close(loss, said.loss_dict[f"loss_{kind}"])


def test_each_layer_learns_the_sides_it_tells() -> None:
    """D-FINE's classes and boxes begin one layer before its sides."""
    from smallobj.detectors.dfine import DFine

    def told(layers: int, size: int) -> Tensor:
        return torch.arange(float(layers))[None, :, None, None].expand(1, -1, 3, size) / 10

    decoded = SimpleNamespace(
        intermediate_logits=told(4, 2),
        intermediate_reference_points=told(4, 4),
        intermediate_predicted_corners=told(3, 132),
        initial_reference_points=told(3, 4),
    )
    layers = DFine.layers(None, decoded, slice(1, None))  # type: ignore[arg-type]
    assert [round(10 * float(layer["logits"].mean())) for layer in layers] == [0, 1, 2, 3]
    assert [round(10 * float(layer["pred_boxes"].mean())) for layer in layers] == [0, 1, 2, 3]
    assert "pred_corners" not in layers[0]
    for i, layer in enumerate(layers[1:]):
        assert layer["pred_corners"].shape == (1, 2, 132)
        assert round(10 * float(layer["pred_corners"].mean())) == i
        assert round(10 * float(layer["teacher_corners"].mean())) == 2


@pytest.mark.parametrize("name", FAMILIES)
def test_raw_made_from_the_truth_is_decoded_to_the_truth(name: str, tiny: Build) -> None:
    detector = detr(tiny, name)
    wanted = torch.tensor([[41.0, 19, 62, 30], [3, 5, 9, 60]])
    raw = {"logits": torch.full((1, 50, 2), -9.0), "boxes": torch.rand(1, 50, 4)}
    (label,) = in_parts([Target(wanted, torch.tensor([1, 0]))], (64, 96))
    raw["boxes"][0, [7, 30]] = label["boxes"]
    raw["logits"][0, 7, 1], raw["logits"][0, 30, 0] = 4.0, 3.0
    found = detector.decode(raw, (64, 96))[0]
    torch.testing.assert_close(found.xyxy[:2], wanted)
    assert found.label[:2].tolist() == [1, 0]
    assert len(found.score) == 2


def test_true_boxes_are_cut_at_the_border_and_dropped_beyond() -> None:
    boxes = torch.tensor([[-10.0, -10, 10, 20], [200, 5, 220, 9], [10, 20, 30, 40]])
    (label,) = in_parts([Target(boxes, torch.tensor([0, 1, 2]))], (80, 100))
    assert label["class_labels"].tolist() == [0, 2]
    torch.testing.assert_close(
        box_convert(label["boxes"], "cxcywh", "xyxy"),
        torch.tensor([[0, 0, 0.1, 0.25], [0.1, 0.25, 0.3, 0.5]]),
    )


def test_an_anchor_is_so_many_strides_wide_at_any_size() -> None:
    maps = [torch.zeros(1, 1, 16, 24), torch.zeros(1, 1, 8, 12)]
    boxes = anchors(maps, 2.0)[0].sigmoid() * torch.tensor([96.0, 64, 96, 64])
    torch.testing.assert_close(boxes[0], torch.tensor([2.0, 2, 8, 8]))
    torch.testing.assert_close(boxes[25], torch.tensor([6.0, 6, 8, 8]))
    torch.testing.assert_close(boxes[16 * 24], torch.tensor([4.0, 4, 16, 16]))


def test_positions_are_the_librarys() -> None:
    from transformers.models.rt_detr_v2.modeling_rt_detr_v2 import RTDetrV2SinePositionEmbedding

    like = {"width": 7, "height": 5, "device": torch.device("cpu"), "dtype": torch.float32}
    torch.testing.assert_close(Positions(32)(**like), RTDetrV2SinePositionEmbedding(32)(**like))


@pytest.mark.parametrize("name", FAMILIES)
def test_an_image_of_fewer_places_than_queries_is_looked_at(name: str, tiny: Build) -> None:
    detector = detr(tiny, name).eval()
    with torch.no_grad():
        raw = detector(torch.zeros(1, 3, 16, 16, dtype=torch.uint8))  # 21 places
    assert raw["logits"].shape == (1, 50, 2)
    assert all(bool(torch.isfinite(value).all()) for value in raw.values())


@pytest.mark.parametrize("name", FAMILIES)
def test_more_boxes_than_queries_are_learnt_from(name: str, tiny: Build) -> None:
    detector = detr(tiny, name, queries=3, denoising=4)
    images, _ = batch()
    boxes = torch.tensor([[4.0 * i, 4, 4.0 * i + 3, 9] for i in range(12)])
    target = Target(boxes, torch.zeros(12, dtype=torch.int64))
    losses = detector(images, [target, target])
    assert all(bool(torch.isfinite(loss)) for loss in losses.values())


def test_weights_that_are_no_numbers_give_a_loss_that_is_none(tiny: Build) -> None:
    """A training run skips such a step; the library's matching would raise."""
    detector, (images, targets) = detr(tiny, "rtdetr"), batch()
    with torch.no_grad():
        detector.project[0][0].weight.fill_(float("nan"))
    assert all(not bool(torch.isfinite(loss)) for loss in detector(images, targets).values())


def test_training_goes_on_after_prediction_at_the_same_size(tiny: Build) -> None:
    detector, (images, targets) = detr(tiny, "rtdetr"), batch()
    with torch.inference_mode():
        detector(images)
    torch.stack(list(detector(images, targets).values())).sum().backward()
    assert all(weight.grad is not None for weight in detector.parameters())


@pytest.mark.parametrize("name", FAMILIES)
def test_no_norm_is_frozen_and_none_starts_near_nothing(name: str, tiny: Build) -> None:
    norms = [m for m in detr(tiny, name).modules() if hasattr(m, "running_mean")]
    assert all(isinstance(norm, nn.BatchNorm2d) for norm in norms)
    inside = [m for m in detr(tiny, name).encoder.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(bool((norm.weight == 1).all()) for norm in inside)


@pytest.mark.parametrize("name", FAMILIES)
def test_group_norms_go_everywhere(name: str, tiny: Build) -> None:
    detector = detr(tiny, name, norm="group")
    assert not [m for m in detector.modules() if isinstance(m, nn.BatchNorm2d)]
    losses = detector(*batch())
    assert all(bool(torch.isfinite(loss)) for loss in losses.values())


@pytest.mark.parametrize("width", [36, 20, 24])
def test_a_width_that_cannot_be_is_named(width: int, tiny: Build) -> None:
    with pytest.raises(InputError, match="width"):
        tiny("rtdetr", width=width)


def test_the_library_is_imported_when_a_detector_is_built() -> None:
    code = """
import socket, sys
def refused(*_): raise AssertionError("nothing may be downloaded")
socket.socket.connect = socket.getaddrinfo = refused
import smallobj.detectors as detectors
assert "transformers" not in sys.modules
assert {"rtdetr", "dfine"} <= set(detectors.list_detectors())
for name in ("rtdetr", "dfine"):
    detectors.build_detector(name, num_classes=1, mean=(9.0,) * 3, std=(9.0,) * 3, size="tiny")
assert "transformers" in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", FAMILIES)
def test_a_missing_library_names_the_command_that_installs_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [m for m in sys.modules if m.partition(".")[0] == "transformers"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r'pip install "smallobj\[detr\]"') as caught:
        build_detector(name, num_classes=1, mean=(9.0,) * 3, std=(9.0,) * 3, size="tiny")
    assert "\n" not in str(caught.value)
