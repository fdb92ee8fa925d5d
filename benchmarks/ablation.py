"""Trains with each lever on and off for the same time, and writes what each is worth.

python benchmarks/ablation.py ../shared/data/deeppcb /tmp/ablation --time-limit 5m --seeds 0 1

Levers are chosen on training boards alone: 00041, 12000 and 12100 train (381 scans), 12300 is
scored (98 scans). Everything that a row does not name is as `smallobj train` has it. What is there
already is not trained again.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from commands import smallobj
from deeppcb_subset import write_boards

BOARDS = {"train": ("00041", "12000", "12100"), "val": ("12300",)}
BASE = "defaults"
# By name: what is given to `smallobj train` beside the data; a row is compared with its base.
LEVERS: dict[str, tuple[str, ...]] = {
    BASE: (),
    "whole images squashed to 320 px": ("--input", "squash", "--crop", "320"),
    "crops of 192 px": ("--crop", "192"),
    "crops of 384 px": ("--crop", "384"),
    "no background": ("--background", "0"),
    "background 0.3": ("--background", "0.3"),
    "mosaic 0.5": ("--mosaic", "0.5"),
    "mosaic 1": ("--mosaic", "1"),
    "paste 0.5": ("--paste", "0.5"),
    "no balance": ("--balance", "0"),
    "balance 0.5": ("--balance", "0.5"),
    "augmented to the end": ("--plain-end", "0"),
    "half the scale for 0.4": ("--stages", "0.5:0.4"),
    "no scale jitter": ("--scale-jitter", "0"),
    "scale jitter 0.5": ("--scale-jitter", "0.5"),
    "no change of colours": ("--colour", "0"),
    "mirrored left and right alone": ("--symmetry", "mirror"),
    "batch 8": ("--batch", "8"),
    "batch 32": ("--batch", "32"),
    "lr 0.002": ("--lr", "0.002"),
    "lr 0.008": ("--lr", "0.008"),
    "sgd": ("--optimizer", "sgd"),
    "no averaged weights": ("--ema", "0"),
    "averaged over 100 steps": ("--ema", "0.99"),
    "group norm": ("--norm", "group"),
}
# Of detectors that can do without.
OF_DETECTORS: dict[str, tuple[str, ...]] = {
    "stride 8": ("--levels", "3-5"),
    "simota": ("--set", "assigner=simota"),
    "nwd": ("--set", "similarity=nwd"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="checkout of DeepPCB")
    parser.add_argument("out", type=Path, help="folder of the data and the models")
    parser.add_argument("--arch", default="centernet")
    parser.add_argument("--time-limit", default="5m", help="of each training")
    parser.add_argument("--seeds", nargs="+", default=["0", "1"])
    parser.add_argument("--levers", nargs="+", default=list(LEVERS), help="by name")
    parser.add_argument("--threads", help="of each training; all cores where none is given")
    given = parser.parse_args()
    data = given.out / "data"
    if not (data / "data.yaml").exists():
        write_boards(given.source, data, BOARDS)
    common = ["--arch", given.arch, "--data", str(data), "--time-limit", given.time_limit]
    common += ["--threads", given.threads] if given.threads else []
    scores: dict[str, list[float]] = {}
    for name in dict.fromkeys((BASE, *given.levers)):  # the base first, and once
        flags = (LEVERS | OF_DETECTORS)[name]
        folder = given.out / given.arch / name.replace(" ", "_")
        scores[name] = [trained([*common, *flags], folder, seed) for seed in given.seeds]
        print(table(scores, given.seeds, given.out / given.arch), flush=True)


def trained(words: Sequence[str], folder: Path, seed: str) -> float:
    """The best map50 of a run, which is trained where it is not there yet."""
    run = folder / seed
    if not run.with_suffix(".json").exists():
        smallobj("train", *words, "--seed", seed, "--out", run, "--overwrite")
    return float(end_of(run)["scores"]["map50"])


def end_of(run: Path) -> dict[str, Any]:
    """The last line of a run's log."""
    line: dict[str, Any] = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    return line


def table(scores: dict[str, list[float]], seeds: Sequence[str], folder: Path) -> str:
    head = ["lever", *(f"map50, seed {seed}" for seed in seeds), "mean", "gain", "steps"]
    lines = [head, ["---"] * len(head)]
    for name, found in scores.items():
        runs = [folder / name.replace(" ", "_") / seed for seed in seeds]
        steps = " / ".join(str(end_of(run)["step"]) for run in runs)
        gain = f"{mean(found) - mean(scores[BASE]):+.3f}" if name != BASE else ""
        told = [*(f"{score:.3f}" for score in found), f"{mean(found):.3f}", gain, steps]
        lines.append([name, *told])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
