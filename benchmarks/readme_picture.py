"""Draws docs/demo.png from a finished demo.

python benchmarks/readme_picture.py smallobj-demo docs/demo.png
"""

import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from PIL import Image

from smallobj.boxes import Array, iou_matrix
from smallobj.datasets.shipped import DEEPPCB
from smallobj.formats import align_runs, read_labels, read_run

IMAGES = ("13000115.png", "44000059.png", "13000184.png")
LEAST_SCORE = 0.3


def main(demo: Path, out: Path) -> None:
    labels = read_labels(DEEPPCB, split="val")
    run = read_run(demo / "tuned.json", labels=labels)
    truth = labels.table
    found = align_runs([run], images=truth.images, classes=truth.classes).tables[0]
    mpl.use("Agg")
    figure, axes = plt.subplots(1, len(IMAGES), figsize=(12, 4.3), layout="constrained")
    for name, axis in zip(IMAGES, axes, strict=True):
        image = next(i for i, image_id in enumerate(truth.images.ids) if image_id.endswith(name))
        axis.imshow(Image.open(labels.paths[image]).convert("L"), cmap="gray", vmin=-160)
        axis.set_axis_off()
        true, rows = truth.rows(image), found.rows(image)
        assert found.score is not None
        sure = found.score[rows] >= LEAST_SCORE
        boxes, classes = found.xyxy[rows][sure], found.label[rows][sure]
        same = classes[:, None] == truth.label[true][None]
        hit = (iou_matrix(boxes, truth.xyxy[true]) * same >= 0.5).any(axis=1)
        seen = (iou_matrix(truth.xyxy[true], boxes) * same.T >= 0.5).any(axis=1)
        outline(axis, truth.xyxy[true][~seen], "tab:blue", ":")
        outline(axis, boxes[hit], "tab:green", "-")
        outline(axis, boxes[~hit], "tab:red", "--")
        for (left, top, *_), label in zip(boxes, classes, strict=True):
            axis.text(left, top - 4, truth.classes.names[label], fontsize=7, color="black")
    figure.suptitle("right: solid, wrong: dashed, missed: dotted (score 0.3 and more)", fontsize=9)
    figure.savefig(out, dpi=80)


def outline(axis: Axes, boxes: Array, colour: str, stroke: str) -> None:
    for left, top, right, bottom in np.asarray(boxes):
        size = (right - left, bottom - top)
        style = {"fill": False, "edgecolor": colour, "linestyle": stroke, "linewidth": 1.6}
        axis.add_patch(Rectangle((left, top), *size, **style))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
