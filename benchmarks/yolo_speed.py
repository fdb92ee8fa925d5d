"""A training step of yolo on the CPU beside ultralytics' YOLOv8, same images, taking turns.

    python benchmarks/yolo_speed.py --peer-python /path/of/another/environment/bin/python

A step is forward, loss, backward and AdamW of a batch in memory, images as bytes. The peer is
AGPL and no part of this project: it runs in an environment of its own, as its user would run it:
model from its yaml, its own loss. Steps alternate; a ratio is the median over the rounds of our
time over the peer's in the same round. On a busy machine, the time that the processors spent
(last columns) with one thread says more than the clock.
"""

import argparse
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from smallobj.detectors import Target, build_detector
from smallobj.prediction.latency import threads_of

Times = tuple[float, float]  # seconds by the clock, seconds of all processors
CLASSES = 6
PEER = """
import sys, time
import numpy as np, torch
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import DetectionModel

data = np.load(sys.argv[1])
torch.set_num_threads(int(sys.argv[3]))
model = DetectionModel(sys.argv[2], nc=int(data["classes"]), verbose=False)
model.args = get_cfg()
model.train()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
images = torch.from_numpy(data["images"])
xyxy = torch.from_numpy(data["xyxy"]) / images.shape[-1]
xywh = torch.cat(((xyxy[:, :2] + xyxy[:, 2:]) / 2, xyxy[:, 2:] - xyxy[:, :2]), 1)
label = torch.from_numpy(data["label"]).float()[:, None]
image = torch.from_numpy(data["image"]).float()
print("ready", flush=True)
for _ in sys.stdin:
    wall, busy = time.perf_counter(), time.process_time()
    optimizer.zero_grad()
    batch = {"img": images.float() / 255, "cls": label, "bboxes": xywh, "batch_idx": image}
    model(batch)[0].sum().backward()
    optimizer.step()
    print(time.perf_counter() - wall, time.process_time() - busy, flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer-python", required=True, help="of the peer's environment")
    parser.add_argument("--px", type=int, default=320)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--boxes", type=int, default=10, help="an image, of 10 to 60 px")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    print("| levels | ours ms/image | peer ms/image | ratio | ours busy | peer busy | ratio |")
    print("|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder, threads_of(options.threads):
        file = Path(folder) / "batch.npz"
        data = _batch(options.batch, options.px, options.boxes)
        np.savez(file, **data)
        for levels, finest, yaml in (("3-5", 8, "yolov8n.yaml"), ("2-5", 4, "yolov8n-p2.yaml")):
            ours = _ours(data, finest)
            peer = [options.peer_python, "-c", PEER, str(file), yaml, str(options.threads)]
            with _stepping(peer) as theirs:
                rounds = [(ours(), theirs()) for _ in range(options.rounds + 2)][2:]
            print(f"| {levels} | {_row(rounds, options.batch)} |", flush=True)


def _batch(images: int, px: int, boxes: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    side = random.uniform(10, 60, (images * boxes, 2))
    corner = random.uniform(0, px - side)
    return {
        "images": random.integers(0, 256, (images, 3, px, px), dtype=np.uint8),
        "xyxy": np.hstack((corner, corner + side)).astype(np.float32),
        "label": random.integers(0, CLASSES, images * boxes),
        "image": np.repeat(np.arange(images), boxes),
        "classes": np.array(CLASSES),
    }


def _ours(data: dict[str, np.ndarray], finest: int) -> Callable[[], Times]:
    grey = (127.0, 127.0, 127.0)
    detector = build_detector(
        "yolo", num_classes=CLASSES, mean=grey, std=grey, size="n", finest=finest
    ).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as training lays it out
    optimizer = torch.optim.AdamW(detector.parameters(), lr=1e-3)
    images = torch.from_numpy(data["images"])
    targets = [
        Target(
            torch.from_numpy(data["xyxy"][data["image"] == i]),
            torch.from_numpy(data["label"][data["image"] == i]),
        )
        for i in range(len(images))
    ]

    def step() -> Times:
        wall, busy = time.perf_counter(), time.process_time()
        optimizer.zero_grad()
        torch.stack(list(detector(images, targets).values())).sum().backward()
        optimizer.step()
        return time.perf_counter() - wall, time.process_time() - busy

    return step


@contextmanager
def _stepping(command: list[str]) -> Iterator[Callable[[], Times]]:
    """A process that makes one step for each line it reads, and answers its times."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        while process.stdout.readline() not in {"ready\n", ""}:
            pass

        def step() -> Times:
            print("go", file=process.stdin, flush=True)
            wall, busy = process.stdout.readline().split()
            return float(wall), float(busy)

        yield step
        process.stdin.close()


def _row(rounds: list[tuple[Times, Times]], batch: int) -> str:
    """Milliseconds an image of both and their ratio, by the clock and of the processors."""
    cells = []
    for kind in (0, 1):
        ours, theirs = ([turn[kind] for turn in one] for one in zip(*rounds, strict=True))
        cells += [f"{statistics.median(times) / batch * 1000:.1f}" for times in (ours, theirs)]
        cells.append(f"{statistics.median(a / b for a, b in zip(ours, theirs, strict=True)):.2f}")
    return " | ".join(cells)


if __name__ == "__main__":
    main()
