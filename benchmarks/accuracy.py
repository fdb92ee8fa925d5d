"""Trains detectors on DeepPCB for the same time, looks in flips, fuses, and scores boards not seen.

python benchmarks/accuracy.py ../shared/data/deeppcb /tmp/accuracy --time-limit 20m

Boards 00041, 12000, 12100 and 12300 train (479 scans), all of them, without a choice of weights;
13000 and 44000 are scored (316 scans). The runs are fused by `smallobj fuse` as it is, equal
weights, nothing chosen; what `smallobj tune` would bring is told out of fold. Gains are over the
best single detector that looks once, with paired intervals of 95 %. What is there already is not
made again.
"""

import argparse
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from commands import smallobj
from deeppcb_subset import TRAINING_BOARDS, VALIDATION_BOARDS, write_boards

METRICS = ("map50", "map75", "map50_95")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="checkout of DeepPCB")
    parser.add_argument("out", type=Path, help="folder of the data, models and runs")
    parser.add_argument("--time-limit", default="20m", help="of each training")
    parser.add_argument("--archs", nargs="+", default=["centernet", "fcos", "yolo"])
    parser.add_argument("--seed", default="0")
    given = parser.parse_args()
    data, runs = given.out / "data", given.out / "runs"
    if not (data / "data.yaml").exists():
        write_boards(given.source, data, {"train": TRAINING_BOARDS, "val": VALIDATION_BOARDS})
    for arch in given.archs:
        trained(arch, data, given.out / "models" / arch, given.time_limit, given.seed)
        predicted(given.out / "models" / arch, data, runs / f"{arch}.json")
        predicted(given.out / "models" / arch, data, runs / f"{arch}-flips.json", "--tta")
    flips = [runs / f"{arch}-flips.json" for arch in given.archs]
    fused, recipe = runs / "fused.json", given.out / "recipe.toml"
    if not fused.exists():
        smallobj("fuse", *flips, "--out", fused)
    if not recipe.exists():
        smallobj("tune", *flips, "--labels", data, "--split", "val", "--out", recipe)
    once = sorted(
        scored([runs / f"{arch}.json" for arch in given.archs], data, given.out / "once.json"),
        key=lambda run: -run["overall"]["map50"],
    )
    best = runs / f"{once[0]['name']}.json"
    others = [runs / f"{run['name']}.json" for run in once[1:]]
    print(table(scored([best, *others, *flips, fused], data, given.out / "scores.json")))
    print(told(given.out / "recipe.tune.toml"))


def trained(arch: str, data: Path, model: Path, time_limit: str, seed: str) -> None:
    if (model / "manifest.toml").exists():
        return
    words = ("--arch", arch, "--data", data, "--split", "train", "--fold", "none")
    length = ("--time-limit", time_limit, "--seed", seed)
    smallobj("train", *words, *length, "--out", model, "--overwrite")


def predicted(model: Path, data: Path, run: Path, *words: str) -> None:
    if not run.exists():
        smallobj("predict", model, data, "--split", "val", *words, "--out", run)


def scored(runs: Sequence[Path], data: Path, file: Path) -> list[dict[str, Any]]:
    """What `evaluate` finds of every run; gains are over the first."""
    smallobj("evaluate", *runs, "--labels", data, "--split", "val", "--json", file)
    found: list[dict[str, Any]] = json.loads(file.read_text())["runs"]
    return found


def table(runs: Sequence[dict[str, Any]]) -> str:
    """A line for every run, the best single one first."""
    lines = [["run", *METRICS, "map50 above the first"], ["---"] * (len(METRICS) + 2)]
    for run in runs:
        scores = [f"{run['overall'][metric]:.3f}" for metric in METRICS]
        scores[0] += between(run["intervals"]["map50"], ".3f")
        above = run.get("above_first", {}).get("map50")
        gain = f"{above['mean']:+.3f}{between(above, '+.3f')}" if above else ""
        lines.append([run["name"], *scores, gain])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def told(report: Path) -> str:
    """What tuning would bring, on images that it did not choose by."""
    found = tomllib.loads(report.read_text())
    single, tuned, gain = found["best_single"], found["tuned"], found["tuned"]["above_best_single"]
    return (
        f"tuned, out of fold: map50 {tuned['out_of_fold']:.3f} ({tuned['chosen']}); "
        f"{single['model']} alone {single['out_of_fold']:.3f}, "
        f"{gain['mean']:+.3f}{between(gain, '+.3f')}"
    )


def between(interval: Mapping[str, float], digits: str) -> str:
    return f" ({interval['low']:{digits}} to {interval['high']:{digits}})"


if __name__ == "__main__":
    main()
