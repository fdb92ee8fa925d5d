"""Trains on aerial photographs, tiles against squashed images, and scores sequences not seen.

python benchmarks/aerial.py ../shared/data/aerial_cars /tmp/aerial --time-limit 10m

Whole sequences are kept apart: DJI_0762, MOS156 to MOS178 and three 4K stills (23 images) are
scored, the other 66 train, all of them, without a choice of weights. The only truck that would be
scored is left out: car, bus and minibus count. Each row is trained for the same time with the
defaults of `smallobj train`, but for what it names. What is there already is not trained again.
"""

import argparse
import json
import re
import shutil
from pathlib import Path

from commands import smallobj

HELD_OUT = re.compile(r"DJI_0762-|MOS(15[6-9]|16\d|17[0-8])\.|DJI_00(20|22|28)\.")
TRUCK = "1"
# By name: what is given to `smallobj train`, and to `smallobj predict`.
ROWS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "tiles": ((), ()),
    "tiles, flips": ((), ("--tta",)),
    "squashed to 640 px": (("--input", "squash", "--crop", "640"), ()),
    "squashed to 640 px, flips": (("--input", "squash", "--crop", "640"), ("--tta",)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="checkout of aerial-cars-dataset")
    parser.add_argument("out", type=Path, help="folder of the data, models and runs")
    parser.add_argument("--archs", nargs="+", default=["centernet"])
    parser.add_argument("--time-limit", default="10m", help="of each training")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), help="by name")
    given = parser.parse_args()
    data = given.out / "data"
    if not (data / "data.yaml").exists():
        write_data(given.source, data)
    print("| detector | looks at | map50 | map50_95 |\n|---|---|---|---|")
    for arch in given.archs:
        for row in given.rows:
            training, predicting = ROWS[row]
            name = "-".join([arch, given.seed, *(word.strip("-") for word in training)])
            model = given.out / "models" / name
            if not (model / "manifest.toml").exists():
                words = ("--arch", arch, "--data", data, "--split", "train", "--fold", "none")
                length = ("--time-limit", given.time_limit, "--seed", given.seed)
                smallobj("train", *words, *length, *training, "--out", model, "--overwrite")
            run = given.out / "runs" / f"{name}{'-tta' if predicting else ''}.json"
            if not run.exists():
                smallobj("predict", model, data, "--split", "val", *predicting, "--out", run)
            print(scored(arch, row, run, data), flush=True)


def write_data(source: Path, target: Path) -> None:
    """The photographs as they are, in two parts."""
    for image in sorted(source.iterdir()):
        labels = image.with_suffix(".txt")
        if image.suffix.lower() not in (".jpg", ".png") or not labels.exists():
            continue
        part = "val" if HELD_OUT.match(image.name) else "train"
        lines = labels.read_text().splitlines(keepends=True)
        if part == "val":
            lines = [line for line in lines if line.split()[:1] != [TRUCK]]
        for folder in ("images", "labels"):
            (target / folder / part).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(image, target / "images" / part / image.name)
        (target / "labels" / part / labels.name).write_text("".join(lines))
    names = (source / "aerial.names").read_text().split()
    listed = "".join(f"  {number}: {name}\n" for number, name in enumerate(names))
    header = "path: .\ntrain: images/train\nval: images/val\nnames:\n"
    (target / "data.yaml").write_text(header + listed)


def scored(arch: str, row: str, run: Path, data: Path) -> str:
    """A line of the table."""
    file = run.with_suffix(".scores")
    smallobj("evaluate", run, "--labels", data, "--split", "val", "--json", file)
    (found,) = json.loads(file.read_text())["runs"]
    cells = [arch, row]
    for metric in ("map50", "map50_95"):
        low, high = (found["intervals"][metric][end] for end in ("low", "high"))
        cells.append(f"{found['overall'][metric]:.3f} ({low:.3f} to {high:.3f})")
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
