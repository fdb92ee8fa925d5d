"""Learning rate, averaged weights, and what a bad step leaves behind."""

from itertools import pairwise
from typing import Any

import pytest
import torch

from smallobj.detectors import Detector, build_detector
from smallobj.training import TrainConfig
from smallobj.training.optimise import (
    AveragedModel,
    GoodBuffers,
    learning_rate,
    make_optimizer,
)


@pytest.fixture
def model() -> Detector:
    torch.manual_seed(0)
    return build_detector(
        "centernet", num_classes=2, mean=(9.0, 9.0, 9.0), std=(9.0, 9.0, 9.0), size="tiny"
    )


def test_the_rate_rises_then_falls_to_its_share(quick: dict[str, Any]) -> None:
    config = TrainConfig.from_dict({**quick, "warmup_steps": 10, "lr": 1.0, "final_lr": 0.1})
    rates = [learning_rate(step, 100, config) for step in range(100)]
    assert rates[0] == pytest.approx(1 / 11)
    assert all(a < b for a, b in pairwise(rates[:11]))
    assert rates[10] == 1.0
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[-1] == pytest.approx(0.1, abs=0.001)


def test_the_rate_is_the_same_before_and_after_the_length_is_known(quick: dict[str, Any]) -> None:
    config = TrainConfig.from_dict({**quick, "warmup_steps": 20})
    for step in range(20):
        assert learning_rate(step, None, config) == learning_rate(step, 1000, config)


def test_adam_of_the_baseline_decays_nothing(model: Detector, quick: dict[str, Any]) -> None:
    config = TrainConfig.from_dict({**quick, "optimizer": "adam", "momentum": 0.937})
    optimizer = make_optimizer(model, config)
    assert type(optimizer) is torch.optim.Adam
    for group in optimizer.param_groups:
        assert group["lr"] == 1e-3
        assert group["betas"] == (0.937, 0.999)
        assert group["weight_decay"] == 0


@pytest.mark.parametrize(
    ("optimizer", "kind"), [("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)]
)
def test_momentum_is_that_of_each_optimizer(
    model: Detector, quick: dict[str, Any], optimizer: str, kind: type
) -> None:
    for momentum in (0.9, 0.5):
        config = TrainConfig.from_dict({**quick, "optimizer": optimizer, "momentum": momentum})
        made = make_optimizer(model, config)
        assert type(made) is kind
        group = made.param_groups[0]
        assert momentum == (group["momentum"] if optimizer == "sgd" else group["betas"][0])


def test_decay_is_for_what_multiplies(model: Detector, config: TrainConfig) -> None:
    decayed, plain = make_optimizer(model, config).param_groups
    assert decayed["weight_decay"] > 0
    assert plain["weight_decay"] == 0
    assert all(p.dim() > 1 for p in decayed["params"])
    assert all(p.dim() <= 1 for p in plain["params"])
    assert len(decayed["params"]) + len(plain["params"]) == len(list(model.parameters()))


def test_averaged_weights_start_quickly_and_then_follow_slowly(model: Detector) -> None:
    averaged = AveragedModel(model, decay=0.9)
    name = next(n for n, p in model.named_parameters() if p.dim() > 1)
    mine = dict(averaged.model.named_parameters())[name]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        for buffer in model.buffers():
            if not buffer.is_floating_point():
                buffer.add_(7)
    before = mine.clone()
    averaged.update(0)
    assert torch.allclose(mine, before * 0.1)
    before = mine.clone()
    averaged.update(1_000_000)
    assert torch.allclose(mine, before * 0.9)
    for theirs, ours in zip(model.buffers(), averaged.model.buffers(), strict=True):
        assert theirs.is_floating_point() or torch.equal(theirs, ours)


def test_buffers_come_back(model: Detector) -> None:
    buffers = GoodBuffers(model)
    before = [buffer.clone() for buffer in model.buffers()]
    for buffer in model.buffers():
        buffer.fill_(float("nan") if buffer.is_floating_point() else 3)
    buffers.restore()
    assert all(torch.equal(a, b) for a, b in zip(before, model.buffers(), strict=True))
