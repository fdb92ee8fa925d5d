"""The mean of weights: in float64, of models that are alike, whole numbers those of the first."""

from dataclasses import replace

import pytest
import torch

from smallobj.boxes import Classes, InputError
from smallobj.weights import Manifest
from smallobj.weights.averaging import MeanState, check_alike, origin_of_mean

MANIFEST = Manifest(
    id="a",
    arch="centernet",
    backbone="resnet18",
    config={"width": 64},
    classes=Classes.of(["nut"]),
    train_crop_px=192,
    largest_object_px=90,
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
)


def test_the_mean_is_taken_in_float64_and_keeps_the_type() -> None:
    mean = MeanState()
    values = torch.rand(3, 50)
    values[1] *= 1e8  # float32 sums would lose the others' last digits
    for value in values:
        mean.add({"w": value, "h": value.half() / 1e8, "count": torch.tensor(int(value[0]) + 5)})
    found = mean.mean()
    assert torch.equal(found["w"], values.double().mean(0).float())
    assert found["h"].dtype == torch.float16
    assert found["count"] == int(values[0, 0]) + 5
    assert mean.same == set()


def test_tensors_that_are_the_same_in_all_are_known() -> None:
    mean = MeanState()
    for value in (1.0, 1.0, 2.0):
        mean.add({"frozen": torch.ones(2), "learnt": torch.tensor([value])})
    assert mean.same == {"frozen"}


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ({"w": torch.ones(3)}, r"b: item w: tensor must have shape \[2\], got \[3\]"),
        ({"v": torch.ones(2), "w": torch.ones(2)}, "b: item v: tensor is not in all"),
        ({}, "b: item w: tensor is not in all"),
    ],
)
def test_tensors_that_do_not_fit_are_named(state: dict[str, torch.Tensor], told: str) -> None:
    mean = MeanState()
    mean.add({"w": torch.ones(2)})
    with pytest.raises(InputError, match=told):
        mean.add(state, file="b")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"arch": "fcos"}, "arch"),
        ({"config": {"width": 96}}, "config.width"),
        ({"config": {"width": 64, "norm": "group"}}, "config.norm"),
        ({"classes": Classes.of(["bolt"])}, "classes.names"),
        ({"mean": (1.0, 0.0, 0.0)}, "mean"),
        ({"dtype": "float16"}, "dtype"),
        ({"train_crop_px": 256}, "train_crop_px"),
    ],
)
def test_models_that_differ_are_refused_by_what_differs(
    change: dict[str, object], field: str
) -> None:
    check_alike([MANIFEST, replace(MANIFEST, id="b", scores={"map50": 0.5})], ["a", "b"])
    with pytest.raises(InputError, match=f"b: field {field}: differs from a"):
        check_alike([MANIFEST, replace(MANIFEST, **change)], ["a", "b"])  # type: ignore[arg-type]


def test_the_origin_tells_which_models_and_what_they_began_from() -> None:
    other = replace(MANIFEST, id="b")
    assert origin_of_mean([MANIFEST, other]) == "mean of a, b (random weights)"
    other = replace(other, origin="pretrained x")
    assert origin_of_mean([MANIFEST, other]) == "mean of a (random weights), b (pretrained x)"
