"""What slicing costs beside the network: smallobj against SAHI, same torchvision model.

    python benchmarks/sahi_speed.py [--images FOLDER]

Needs the extra `bench`. Photographs of 2800 x 2100 px (mosaics, see predict_speed.py) are cut into
tiles of 640 px that overlap by 128, every tile goes through torchvision's Faster R-CNN on
MobileNetV3 (random weights, seeded, the best --boxes of a tile are kept whatever they score), and
boxes of a class that overlap by more than 0.5 are suppressed. Both begin at the file and end with
the boxes of the photograph; both call the same model object, which takes its own time. Rounds take
turns; a ratio is SAHI's time over ours in a round.

alone: what all processors spend on the whole where the model is not run but random boxes are given
as its answers, so that nothing can hide behind it. outside, with --model-rounds: the time of the
whole by the clock less the time inside the model; while that computes, smallobj decodes and cuts
what comes next, so several photographs are needed to see it.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from predict_speed import SHIPPED, TILES, make_photos
from sahi.models.torchvision import TorchVisionDetectionModel
from sahi.predict import get_sliced_prediction
from torch import Tensor, nn
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_fpn

from smallobj.detectors import Candidates, Detector, DetectorConfig, Target
from smallobj.prediction import PredictConfig, find_images, stream, threads_of

CLASSES = 6
IOU = 0.5
BATCH = 2  # tiles at a time, for both
TILES_A_PHOTO = 24  # of both
Answers = list[dict[str, Tensor]]
Ways = tuple[Callable[[], None], Callable[[], None]]  # SAHI's and ours
Times = tuple[list[float], list[float]]  # seconds of each round, likewise


class Timed(nn.Module):
    """A torchvision detector that takes its time, or gives answers made before."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.seconds = 0.0
        self.again: Iterator[dict[str, Tensor]] | None = None  # what to say, unasked

    def forward(self, images: list[Tensor]) -> Answers:
        if self.again is not None:
            return [*itertools.islice(self.again, len(images))]
        begun = time.perf_counter()
        answers: Answers = self.model(images)
        self.seconds += time.perf_counter() - begun
        return answers


class Wrapped(Detector):
    """The same model as a detector of smallobj, which predicts only."""

    def __init__(self, model: nn.Module) -> None:
        config = DetectorConfig(num_classes=CLASSES, mean=(127.0,) * 3, std=(60.0,) * 3)
        super().__init__(config, stride=32)
        self.model = model

    def forward(self, images: Tensor, targets: Sequence[Target] | None = None) -> dict[str, Tensor]:
        answers = self.model([*(images / 255)])
        joined = {name: torch.cat([a[name] for a in answers]) for name in answers[0]}
        return joined | {"counts": torch.tensor([len(a["scores"]) for a in answers])}

    def decode(self, raw: Mapping[str, Tensor], image_size: tuple[int, int]) -> list[Candidates]:
        columns = (raw["boxes"], raw["scores"], raw["labels"] - 1)
        parts = (column.split(raw["counts"].tolist()) for column in columns)
        return [Candidates(*of_image) for of_image in zip(*parts, strict=True)]

    def network(self, x: Tensor) -> dict[str, Tensor]:
        raise NotImplementedError

    def losses(
        self, raw: Mapping[str, Tensor], targets: Sequence[Target], image_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        raise NotImplementedError

    def boxes(
        self, raw: Mapping[str, Tensor], image_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, default=SHIPPED, help="real ones, at all levels")
    parser.add_argument("--photos", type=int, default=4)
    parser.add_argument("--boxes", type=int, nargs="*", default=[5, 20, 100], help="of a tile")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model-rounds", type=int, default=0, help="minutes each on two cores")
    options = parser.parse_args()
    print(f"sahi {version('sahi')}, torchvision {version('torchvision')}; ms a photograph\n")
    print("| boxes a tile | time | SAHI | ours | ratio |\n|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as name, threads_of(options.threads):
        folder = Path(name) / "photos"
        make_photos(options.images, folder, options.photos)
        paths = [Path(str(path)) for path in find_images(folder).paths]
        for boxes in options.boxes:
            model = Timed(_model(boxes))
            ways = (_sahi(model, paths), _ours(model, paths))
            times = {
                "alone": _alone(model, ways, boxes, TILES_A_PHOTO * len(paths), options.rounds)
            }
            if options.model_rounds:
                times["outside"] = _outside(model, ways, options.model_rounds)
            for what, (theirs, ours) in times.items():
                print(f"| {boxes} | {what} | {_cells(theirs, ours, len(paths))} |", flush=True)


def _alone(model: Timed, ways: Ways, boxes: int, tiles: int, rounds: int) -> Times:
    answers = _random_answers(boxes, tiles)
    times: Times = ([], [])
    for turn in range(rounds + 1):
        for way, seen in zip(ways, times, strict=True):
            model.again = iter(answers)
            spent = _seconds(way, time.process_time)
            if turn:
                seen.append(spent)
    model.again = None
    return times


def _outside(model: Timed, ways: Ways, rounds: int) -> Times:
    times: Times = ([], [])
    for turn in range(rounds + 1):
        for way, seen in zip(ways, times, strict=True):
            model.seconds = 0.0
            whole = _seconds(way)
            if turn:
                seen.append(whole - model.seconds)
    return times


def _cells(theirs: list[float], ours: list[float], photos: int) -> str:
    ratios = sorted(a / b for a, b in zip(theirs, ours, strict=True))
    middles = [f"{statistics.median(times) / photos * 1000:.0f} ms" for times in (theirs, ours)]
    ratio = f"{statistics.median(ratios):.1f}x ({ratios[0]:.1f} to {ratios[-1]:.1f})"
    return " | ".join([*middles, ratio])


def _random_answers(boxes: int, tiles: int) -> Answers:
    """Boxes of 10 to 70 px for each tile."""
    random = torch.Generator().manual_seed(0)
    answers = []
    for _ in range(tiles):
        corner = 560 * torch.rand(boxes, 2, generator=random)
        side = 10 + 60 * torch.rand(boxes, 2, generator=random)
        answers.append(
            {
                "boxes": torch.cat((corner, corner + side), 1),
                "scores": torch.rand(boxes, generator=random),
                "labels": torch.randint(1, CLASSES + 1, (boxes,), generator=random),
            }
        )
    return answers


def _model(boxes: int) -> nn.Module:
    torch.manual_seed(0)
    return fasterrcnn_mobilenet_v3_large_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=CLASSES + 1,
        min_size=640,
        max_size=640,
        rpn_pre_nms_top_n_test=200,
        rpn_post_nms_top_n_test=100,
        box_score_thresh=0.0,
        box_detections_per_img=boxes,
    ).eval()


def _sahi(model: Timed, paths: list[Path]) -> Callable[[], None]:
    detector = TorchVisionDetectionModel(
        model=model,
        confidence_threshold=0.0,
        category_mapping={str(i): str(i) for i in range(CLASSES + 1)},
        device="cpu",
    )
    assert TILES.tiling is not None
    side, overlap = TILES.tiling.side_px, TILES.tiling.overlap_px

    def way() -> None:
        with torch.inference_mode():
            for path in paths:
                get_sliced_prediction(
                    str(path),
                    detector,
                    slice_height=side,
                    slice_width=side,
                    overlap_height_ratio=overlap / side,
                    overlap_width_ratio=overlap / side,
                    perform_standard_pred=False,
                    postprocess_type="NMS",
                    postprocess_match_metric="IOU",
                    postprocess_match_threshold=IOU,
                    batch_size=BATCH,
                    verbose=0,
                )

    return way


def _ours(model: Timed, paths: list[Path]) -> Callable[[], None]:
    detector = Wrapped(model)
    config = PredictConfig(
        views=(TILES,), nms_iou=IOU, batch_size=BATCH, precision="fp32", max_boxes=100_000
    )

    def way() -> None:
        for seen in stream(detector, paths, config):
            if seen.error is not None:
                raise seen.error

    return way


def _seconds(work: Callable[[], None], clock: Callable[[], float] = time.perf_counter) -> float:
    begun = clock()
    work()
    return clock() - begun


if __name__ == "__main__":
    main()
