"""Trains every family of detectors on DeepPCB for the same time, and writes one table.

python benchmarks/families.py ../shared/data/deeppcb /tmp/families --time-limit 5m

Boards 00041, 12000, 12100 and 12300 train (479 scans), 13000 and 44000 validate (316 scans).
Everything else is as `smallobj train` has it. What is there already is not trained again.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from commands import smallobj
from deeppcb_subset import TRAINING_BOARDS, VALIDATION_BOARDS, write_boards

from smallobj.detectors import detector_class, list_detectors
from smallobj.weights import read_manifest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="checkout of DeepPCB")
    parser.add_argument("out", type=Path, help="folder of the data, models and runs")
    parser.add_argument("--time-limit", default="5m", help="of each training")
    parser.add_argument("--archs", nargs="+", default=list_detectors())
    parser.add_argument("--seed", default="0")
    given = parser.parse_args()
    data = given.out / "data"
    if not (data / "data.yaml").exists():
        parts = {"train": TRAINING_BOARDS, "val": VALIDATION_BOARDS}
        write_boards(given.source, data, parts)
    for arch in given.archs:
        train(arch, data, given.out, given.time_limit, given.seed)
    print(table(given.archs, data, given.out))


def train(arch: str, data: Path, out: Path, time_limit: str, seed: str) -> None:
    run = out / "runs" / arch
    if run.with_suffix(".json").exists():
        return
    command = ["train", "--arch", arch, "--data", data, "--out", run, "--overwrite"]
    smallobj(*command, "--time-limit", time_limit, "--seed", seed)


def table(archs: list[str], data: Path, out: Path) -> str:
    head = ("detector", "size", "backbone", "parameters", "steps", "training")
    columns = [*head, "map50", "map50_95", "map50, 16-32 px"]
    lines = [columns, ["---"] * len(columns)]
    for arch in archs:
        run, scores = out / "runs" / arch, out / f"{arch}.scores.json"
        smallobj("evaluate", f"{run}.json", "--labels", data, "--split", "val", "--json", scores)
        lines.append([*trained(run), *scored(json.loads(scores.read_text()))])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def trained(run: Path) -> list[str]:
    """What was trained, for how long."""
    log = {}
    for line in (run / "log.jsonl").read_text().splitlines():
        event = json.loads(line)
        log[event["kind"]] = event
    manifest = read_manifest(run)
    size = detector_class(manifest.arch).Config.usual_size()
    parameters = f"{log['start']['parameters'] / 1e6:.2f} M"
    end = log["end"]
    minutes = f"{end['seconds'] / 60:.1f} min"
    return [manifest.arch, size, manifest.backbone, parameters, str(end["step"]), minutes]


def scored(scores: dict[str, Any]) -> list[str]:
    """What `evaluate` found: of all boxes, and of those of 16 to 32 px; there are none below."""
    (run,) = scores["runs"]
    small = next(size for size in run["by_size"] if size["name"] == "16-32 px")
    overall = run["overall"]
    low, high = (run["intervals"]["map50"][end] for end in ("low", "high"))
    map50 = f"{overall['map50']:.3f} ({low:.3f} to {high:.3f})"
    return [map50, f"{overall['map50_95']:.3f}", f"{small['map50']:.3f}"]


if __name__ == "__main__":
    main()
