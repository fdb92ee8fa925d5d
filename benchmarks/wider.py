"""Reads `wider_predictions`: what three face detectors found on 1,793 images, and the truth."""

from pathlib import Path

import numpy as np

from smallobj.boxes import BoxTable, Classes, Images, xywh_to_xyxy

DETECTORS = ("yolov7face", "yolov5face", "retinaface")
FACE = Classes.of(["face"])


def read_wider(folder: Path) -> tuple[BoxTable, list[BoxTable]]:
    """The truth and one table a detector, all on the images of the 31 events in events.txt.

    Sizes of the images are unknown. Boxes without area are left out.
    """
    truth = _read_truth(folder)
    return truth, [_read_detector(folder / name, truth.images) for name in DETECTORS]


def _read_truth(folder: Path) -> BoxTable:
    from scipy.io import loadmat  # noqa: PLC0415 - what only reads predictions does not need it

    content = loadmat(folder / "ground_truth" / "wider_face_val.mat", squeeze_me=False)
    wanted = set((folder / "events.txt").read_text().split())
    found = {}
    for event, files, boxes in zip(
        content["event_list"][:, 0],
        content["file_list"][:, 0],
        content["face_bbx_list"][:, 0],
        strict=True,
    ):
        if event[0] in wanted:
            for name, image_boxes in zip(files[:, 0], boxes[:, 0], strict=True):
                found[f"{event[0]}/{name[0]}"] = image_boxes.astype(np.float64)
    return _table(Images.of(list(found)), list(found.values()))


def _read_detector(folder: Path, images: Images) -> BoxTable:
    rows = []
    for image_id in images.ids:
        lines = (folder / f"{image_id}.txt").read_text().splitlines()[2:]
        rows.append(np.array([line.split() for line in lines], np.float64).reshape(-1, 5))
    return _table(images, rows)


def _table(images: Images, rows: list[np.ndarray]) -> BoxTable:
    """rows: one array [M, 4 or 5] an image, x y w h (score) in pixels."""
    every = np.concatenate(rows)
    index = np.repeat(np.arange(len(images)), [len(image) for image in rows])
    solid = (every[:, 2] > 0) & (every[:, 3] > 0)
    scored = every.shape[1] == 5
    return BoxTable.build(
        images=images,
        classes=FACE,
        image_index=index[solid],
        xyxy=xywh_to_xyxy(every[solid, :4]),
        label=np.zeros(int(solid.sum()), np.int32),
        score=np.clip(every[solid, 4], 0, 1) if scored else None,
    )
