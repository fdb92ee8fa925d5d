"""Draws docs/demo.png from a finished demo.

python benchmarks/readme_picture.py smallobj-demo docs/demo.png
"""

import sys
from pathlib import Path

from PIL import Image

from smallobj.datasets import read_image
from smallobj.datasets.shipped import DEEPPCB
from smallobj.formats import align_runs, read_labels, read_run
from smallobj.report.drawing import Pen, draw_marks, marks_of, with_legend
from smallobj.report.judged import JUDGED_KINDS, judge

IMAGES = ("13000115.png", "44000059.png", "13000184.png")
LEAST_SCORE = 0.3
GAP_PX = 10
WIDTH_PX = 1200


def main(demo: Path, out: Path) -> None:
    labels = read_labels(DEEPPCB, split="val")
    run = read_run(demo / "tuned.json", labels=labels)
    truth = labels.table
    found = align_runs([run], images=truth.images, classes=truth.classes).tables[0]
    assert found.score is not None
    shown = judge(truth, found.filter_rows(found.score >= LEAST_SCORE))
    panels = []
    for name in IMAGES:
        image = next(i for i, image_id in enumerate(truth.images.ids) if image_id.endswith(name))
        photograph = Image.fromarray(read_image(labels.paths[image]).permute(1, 2, 0).numpy())
        photograph = photograph.point(lambda value: (value + 160) * 255 // 415)  # paler than lines
        draw_marks(photograph, marks_of(shown, image), Pen(width=3, letters=18))
        panels.append(photograph)
    width = sum(panel.width + GAP_PX for panel in panels) - GAP_PX
    row = Image.new("RGB", (width, max(panel.height for panel in panels)), (255, 255, 255))
    for number, panel in enumerate(panels):
        row.paste(panel, (number * (panel.width + GAP_PX), 0))
    note = f"score {LEAST_SCORE} and more"
    sheet = with_legend(row, JUDGED_KINDS, note, Pen(width=3, letters=22))
    sheet.thumbnail((WIDTH_PX, sheet.height), Image.Resampling.LANCZOS)
    sheet.save(out, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
