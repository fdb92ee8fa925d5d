"""Exported models against eager torch on the CPU, same batches, same threads, taking turns.

    python benchmarks/onnx_speed.py

Untrained weights: they do not change the time. Each round times every engine once; a ratio is the
median over the rounds of torch's time in float32 over the other's in the same round. OpenVINO has
two columns where it is installed, torch in bfloat16 (what `predict` uses of a run) where the CPU
computes in it. On a machine that others share, OMP_WAIT_POLICY=PASSIVE keeps torch's threads from
burning the others' time while they wait, and the others from making torch look slow.
"""

import argparse
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from smallobj.boxes import Classes
from smallobj.detectors import build_detector, describe, detector_class, list_detectors
from smallobj.prediction import autocast, choose_precision
from smallobj.prediction.export import export_onnx
from smallobj.prediction.latency import threads_of
from smallobj.prediction.onnx_model import load_onnx
from smallobj.prediction.runtimes import ONNXRUNTIME, OPENVINO
from smallobj.weights.manifest import Manifest

CPU = torch.device("cpu")
Engine = Callable[[torch.Tensor], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", nargs="*", default=list_detectors())
    parser.add_argument("--size", help="of the detector; its usual one where none is given")
    parser.add_argument("--px", type=int, default=640)
    parser.add_argument("--batch", type=int, nargs="*", default=[1, 4])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, threads_of(options.threads):
        for arch in options.arch:
            engines = _engines(arch, options.size, Path(folder), options.threads)
            if arch == options.arch[0]:
                _print_head([*engines])
            for batch in options.batch:
                images = torch.randint(
                    0, 256, (batch, 3, options.px, options.px), dtype=torch.uint8
                )
                times = _times([*engines.values()], images, options.rounds)
                ratios = [
                    statistics.median(a / b for a, b in zip(times[0], other, strict=True))
                    for other in times[1:]
                ]
                middle = statistics.median(times[0]) * 1000
                cells = " | ".join(f"{ratio:.2f}x" for ratio in ratios)
                size = options.size or detector_class(arch).Config.usual_size()
                print(f"| {arch} {size} | {batch} | {middle:.0f} | {cells} |", flush=True)


def _print_head(names: list[str]) -> None:
    names = ["detector", "batch", f"{names[0]} ms", *names[1:]]
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}")


def _engines(arch: str, size: str | None, folder: Path, threads: int) -> dict[str, Engine]:
    grey = (127.0, 127.0, 127.0)
    detector = build_detector(arch, num_classes=6, mean=grey, std=grey, size=size).eval()
    manifest = Manifest(
        **describe(detector),
        id=arch,
        classes=Classes.of([str(i) for i in range(6)]),
        train_crop_px=640,
        largest_object_px=64.0,
    )
    files = {precision: folder / f"{arch}.{precision}.onnx" for precision in ("fp32", "fp16")}
    for precision, file in files.items():
        export_onnx(detector, manifest, file, precision=precision)

    def halved(images: torch.Tensor) -> object:
        with autocast(CPU, "bf16"):
            return detector(images)

    # As `predict` lays it out.
    engines: dict[str, Engine] = {"torch": detector.to(memory_format=torch.channels_last)}
    if choose_precision(CPU) == "bf16":
        engines["torch bf16"] = halved
    engines["ONNX Runtime"] = load_onnx(files["fp32"], threads=threads, runtime=ONNXRUNTIME)[0]
    engines["fp16 weights"] = load_onnx(files["fp16"], threads=threads, runtime=ONNXRUNTIME)[0]
    if importlib.util.find_spec(OPENVINO):
        for name, precision in (("OpenVINO", "fp32"), ("OpenVINO bf16", "bf16")):
            engines[name] = load_onnx(
                files["fp32"], threads=threads, runtime=OPENVINO, precision=precision
            )[0]
    return engines


def _times(engines: list[Engine], images: torch.Tensor, rounds: int) -> list[list[float]]:
    times: list[list[float]] = [[] for _ in engines]
    with torch.inference_mode():
        for turn in range(rounds + 2):
            for engine, seen in zip(engines, times, strict=True):
                begun = time.perf_counter()
                engine(images)
                if turn >= 2:
                    seen.append(time.perf_counter() - begun)
    return times


if __name__ == "__main__":
    main()
