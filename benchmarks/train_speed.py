"""How long a training step takes alone and with its crops cut beside it, on this machine.

    python benchmarks/train_speed.py [--data FOLDER] [--arch centernet yolo] [--crop 640]

`alone`: the same batch again and again; on a GPU once as it is (`--no-record`) and once with the
network's kernels recorded. `cut beside`: batches as a training gets them, the default number of
workers. Milliseconds a step, the mean of --steps after some that warm up, and crops a second.
"""

import argparse
import copy
import time
from dataclasses import replace
from pathlib import Path

import torch

from smallobj.datasets import CropLoader, Samples, colour_statistics, make_batch
from smallobj.datasets.shipped import DEEPPCB
from smallobj.detectors import Detector, build_detector
from smallobj.prediction import choose_device, choose_precision
from smallobj.training import TrainConfig
from smallobj.training.data import load_data
from smallobj.training.learner import Learner
from smallobj.training.sampling import image_cache, loader_of, training_samples

WARMING = 8
RATE = 1e-4


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DEEPPCB)
    parser.add_argument("--arch", nargs="+", default=["centernet", "yolo"])
    parser.add_argument("--crop", type=int, default=640)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    print("| detector | alone | alone, recorded | cut beside | crops a second | waiting |")
    print("|---" * 6 + "|")
    for arch in given.arch:
        values = {"data": str(given.data), "arch": arch, "batch": given.batch}
        config = TrainConfig.from_dict({**values, "crops": {"crop": given.crop}})
        print(f"| {arch} | {' | '.join(row(config, given.device, given.steps))} |", flush=True)


def row(config: TrainConfig, device: str, steps: int) -> list[str]:
    cache = image_cache(config, print)
    part = load_data(config, lambda line: None).train
    mean, std = colour_statistics(part.paths, cache)
    torch.manual_seed(config.seed)
    model = build_detector(config.arch, num_classes=len(part.table.classes), mean=mean, std=std)
    crops = training_samples(config, part, cache, model)
    model.to(choose_device(device), memory_format=torch.channels_last)  # type: ignore[call-overload]
    plain = alone(learner_of(config, model, record=False), crops, config.batch, steps)
    learner = learner_of(config, model, record=True)
    recorded = alone(learner, crops, config.batch, steps) if learner.on_gpu else None
    with loader_of(config, crops, on_gpu=learner.on_gpu, tell=print) as loader:
        beside, waiting = fed(learner, loader, steps)
    told = "" if recorded is None else f"{1e3 * recorded:.1f} ms"
    crops_a_second = f"{config.batch / beside:.0f}"
    return [
        f"{1e3 * plain:.1f} ms",
        told,
        f"{1e3 * beside:.1f} ms",
        crops_a_second,
        f"{waiting:.1%}",
    ]


def learner_of(config: TrainConfig, model: Detector, *, record: bool) -> Learner:
    precision = choose_precision(model.mean.device)
    return Learner(replace(config, record=record), copy.deepcopy(model), precision, print)


def alone(learner: Learner, crops: Samples, size: int, steps: int) -> float:
    batch = make_batch(crops, size, 0)
    for step in range(WARMING):
        learner.step(batch, step, RATE)
    begun = time.perf_counter()
    for step in range(steps):
        learner.step(batch, step, RATE)
    return (time.perf_counter() - begun) / steps


def fed(learner: Learner, loader: CropLoader, steps: int) -> tuple[float, float]:
    """Seconds a step, and the share of them spent waiting for crops."""
    for step in range(WARMING):
        learner.step(next(loader), step, RATE)
    begun, waited = time.perf_counter(), loader.waited_s
    for step in range(steps):
        learner.step(next(loader), step, RATE)
    spent = time.perf_counter() - begun
    return spent / steps, (loader.waited_s - waited) / spent


if __name__ == "__main__":
    main()
