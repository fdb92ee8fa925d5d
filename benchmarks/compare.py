"""Compares three real face detectors as docs/compare.md shows it, and times the parts.

    python benchmarks/compare.py ../shared/data/wider_predictions

Writes what benchmarks/wider.py reads as runs into a temporary folder and calls `smallobj compare`
there, with at most 1,000 boxes an image; then the library's part alone, without reading files.
"""

import argparse
import contextlib
import os
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np
from wider import DETECTORS, read_wider

from smallobj.boxes import BoxTable, xyxy_to_xywh
from smallobj.cli.main import main as smallobj
from smallobj.evaluation import compare_runs

COMMAND = (
    *("compare", *(f"{name}.json" for name in DETECTORS), "--labels", "faces.json"),
    *("--max-detections", "1000", "--json", "compared.json", "--objects", "faces.csv"),
)


def write_challenge(path: Path, table: BoxTable) -> None:
    """A table as the challenge's JSON: class, x, y, width, height and score where it has one."""
    columns = [table.label[:, None], xyxy_to_xywh(table.xyxy)]
    if table.score is not None:
        columns.append(table.score[:, None])
    rows = np.concatenate(columns, axis=1)
    content = {
        f"{image_id}.jpg": rows[table.rows(i)].tolist()
        for i, image_id in enumerate(table.images.ids)
    }
    path.write_bytes(msgspec.json.encode(content))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="wider_predictions")
    folder = parser.parse_args().folder.resolve()
    truth, tables = read_wider(folder)
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        for name, table in zip(("faces", *DETECTORS), (truth, *tables), strict=True):
            write_challenge(Path(f"{name}.json"), table)
        os.environ["COLUMNS"] = "120"
        print("smallobj", *COMMAND)
        start = time.perf_counter()
        with contextlib.suppress(SystemExit):
            smallobj(list(COMMAND))
        whole = time.perf_counter() - start
        size = Path("faces.csv").stat().st_size
    start = time.perf_counter()
    compare_runs(truth, tables, max_detections=1000)
    alone = time.perf_counter() - start
    boxes = sum(map(len, tables))
    print(f"\n{boxes} boxes of {len(tables)} runs, {len(truth)} true boxes, faces.csv {size} bytes")
    print(f"the command {whole:.1f} s, the library's part with 1,000 samples {alone:.1f} s")


if __name__ == "__main__":
    main()
