"""Merging patches into views and views into one answer, against outside oracles."""

import ensemble_boxes
import numpy as np
import pytest
import torch
from torchvision.ops import batched_nms

from smallobj.boxes import BoxTable, Classes, Images
from smallobj.ensemble import FusionConfig, fuse
from smallobj.tta import MERGES, SYMMETRIES, Boxes, Patch, Tiling, View, looks, merge


def random_boxes(rng: np.random.Generator, count: int, size: int = 200) -> Boxes:
    low = rng.uniform(0, size - 40, (count, 2))
    xyxy = np.concatenate([low, low + rng.uniform(5, 40, (count, 2))], axis=1)
    return Boxes(xyxy, rng.permutation(count) / count, rng.integers(0, 3, count, dtype=np.int32))


def one(xyxy: list[float], score: float = 0.8, label: int = 0) -> Boxes:
    return Boxes(np.array([xyxy], float), np.array([score]), np.array([label], np.int32))


def merged(
    views: tuple[View, ...],
    found: list[list[Boxes]],
    width: int,
    height: int,
    *,
    method: str = "wbf",
    **options: float,
) -> Boxes:
    return merge(
        looks(views, width, height),
        found,
        width=width,
        height=height,
        nms_iou=options.get("nms_iou", 0.5),
        max_boxes=int(options.get("max_boxes", 300)),
        method=method,
    )


@pytest.mark.parametrize("seed", range(5))
def test_a_single_view_is_plain_suppression(seed: int) -> None:
    boxes = random_boxes(np.random.default_rng(seed), 400)
    kept = batched_nms(
        torch.tensor(boxes.xyxy), torch.tensor(boxes.score), torch.tensor(boxes.label).long(), 0.5
    ).numpy()[:100]
    result = merged((View(),), [[boxes]], 200, 200, max_boxes=100)
    assert np.array_equal(result.xyxy, boxes.xyxy[kept])
    assert np.array_equal(result.score, boxes.score[kept])
    assert np.array_equal(result.label, boxes.label[kept])


def test_views_that_see_everything_merge_as_weighted_boxes_fusion() -> None:
    rng = np.random.default_rng(3)
    views = (View(), View(scale=1.5), View(scale=2.0))
    images, classes = Images.of(["a"], [(200, 200)]), Classes.of(["a", "b", "c"])
    found, tables = [], []
    for view in views:
        boxes = random_boxes(rng, 60)
        found.append([Boxes(boxes.xyxy * view.scale, boxes.score, boxes.label)])
        alone = merged((View(),), [[boxes]], 200, 200)
        columns = {"xyxy": alone.xyxy, "label": alone.label, "score": alone.score}
        index = np.zeros(len(alone.score), np.int64)
        tables.append(BoxTable.build(images=images, classes=classes, image_index=index, **columns))
    expected = fuse(tables, FusionConfig(iou=0.5, skip=0.0, max_detections=300))
    assert expected.score is not None
    result = merged(views, found, 200, 200)
    assert result.score == pytest.approx(expected.score)
    order = np.lexsort((result.xyxy[:, 0], -result.score.round(9)))
    other = np.lexsort((expected.xyxy[:, 0], -expected.score.round(9)))
    assert result.xyxy[order] == pytest.approx(expected.xyxy[other])
    assert (result.label[order] == expected.label[other]).all()


@pytest.mark.parametrize("seed", range(3))
def test_views_merged_by_nms_are_suppressed_as_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    views = (View(), View(scale=2.0), View(symmetry=SYMMETRIES["hflip"]))
    found = [random_boxes(rng, 150) for _ in views]
    for boxes in found:  # no score stands twice
        boxes.score[:] = rng.uniform(size=150)
    seen = [found[0], Boxes(found[1].xyxy * 2, *found[1][1:]), mirrored(found[2], 200)]
    xyxy, score, label = (np.concatenate(column) for column in zip(*found, strict=True))
    kept = batched_nms(
        torch.tensor(xyxy), torch.tensor(score), torch.tensor(label).long(), 0.4
    ).numpy()[:50]
    result = merged(views, [[b] for b in seen], 200, 200, nms_iou=0.4, max_boxes=50, method="nms")
    assert result.xyxy == pytest.approx(xyxy[kept])
    assert np.array_equal(result.score, score[kept])
    assert np.array_equal(result.label, label[kept])


def mirrored(boxes: Boxes, width: int) -> Boxes:
    x1, y1, x2, y2 = boxes.xyxy.T
    return Boxes(np.stack([width - x2, y1, width - x1, y2], axis=1), boxes.score, boxes.label)


@pytest.mark.parametrize("seed", range(3))
def test_views_merged_by_nmw_are_what_the_reference_library_makes_of_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    views = (View(), View(scale=2.0))
    found = [random_boxes(rng, 40) for _ in views]
    for boxes in found:
        boxes.score[:] = rng.uniform(0.1, 1, size=40)
    alone = [merged((View(),), [[boxes]], 200, 200) for boxes in found]
    xyxy, score, label = ensemble_boxes.non_maximum_weighted(
        [boxes.xyxy / 200 for boxes in alone],
        [boxes.score for boxes in alone],
        [boxes.label for boxes in alone],
        iou_thr=0.5,
    )
    seen = [[found[0]], [Boxes(found[1].xyxy * 2, *found[1][1:])]]
    result = merged(views, seen, 200, 200, method="nmw")
    order, other = np.argsort(-result.score), np.argsort(-score)
    assert result.score[order] == pytest.approx(score[other], abs=1e-6)
    assert result.xyxy[order] == pytest.approx(xyxy[other] * 200, abs=1e-3)
    assert (result.label[order] == label[other]).all()


@pytest.mark.parametrize("method", MERGES)
def test_every_way_to_merge_leaves_a_single_view_to_suppression(method: str) -> None:
    boxes = random_boxes(np.random.default_rng(0), 200)
    plain = merged((View(),), [[boxes]], 200, 200)
    same = merged((View(),), [[boxes]], 200, 200, method=method)
    for one_way, other in zip(same, plain, strict=True):
        assert np.array_equal(one_way, other)


@pytest.mark.parametrize("method", MERGES)
def test_the_order_in_which_boxes_come_changes_nothing(method: str) -> None:
    """Not even where all scores are equal."""
    rng = np.random.default_rng(1)
    views = (View(), View(scale=2.0))
    found = [random_boxes(rng, 80), random_boxes(rng, 80)]
    for boxes in found:
        boxes.score[:] = 0.25
        boxes.label[:] = 0
    straight = merged(views, [[boxes] for boxes in found], 200, 200, method=method)
    mixed = [[boxes.take(rng.permutation(80))] for boxes in found]
    assert np.array_equal(straight.xyxy, merged(views, mixed, 200, 200, method=method).xyxy)


def test_an_unknown_way_to_merge_is_refused() -> None:
    with pytest.raises(ValueError, match="known: wbf, nms, nmw"):
        merged((View(),), [[Boxes.empty()]], 10, 10, method="mean")


def test_tiles_are_one_opinion_not_many() -> None:
    """Of two looks, tiles and the whole image, both find an object: its score stays."""
    views = (View(tiling=Tiling(side_px=100, overlap_px=40)), View(whole_px=200))
    patches = looks(views, 400, 400)
    truth = np.array([20.0, 30, 46, 48])  # in the first tile alone
    found = [[Boxes.empty() for _ in group] for group in patches]
    found[0][0] = one([*truth], 0.8)
    found[1][0] = one([*(truth / 2)], 0.6)
    result = merged(views, found, 400, 400)
    assert result.score == pytest.approx([0.7])
    assert result.xyxy[0] == pytest.approx(truth)


def test_a_view_that_could_see_but_does_not_lowers_the_score() -> None:
    views = (View(), View(scale=0.5))
    result = merged(views, [[one([10, 10, 40, 40])], [Boxes.empty()]], 100, 100)
    assert result.score == pytest.approx([0.4])


def test_a_view_too_coarse_for_an_object_does_not_judge_it() -> None:
    views = (View(), View(scale=0.25))
    result = merged(views, [[one([10, 10, 22, 22])], [Boxes.empty()]], 100, 100)
    assert result.score == pytest.approx([0.8])


def test_tiles_too_small_for_an_object_do_not_judge_it() -> None:
    views = (View(tiling=Tiling(side_px=100, overlap_px=40)), View(whole_px=200))
    found = [[Boxes.empty() for _ in group] for group in looks(views, 400, 400)]
    found[1][0] = one([20, 20, 120, 120])
    result = merged(views, found, 400, 400)
    assert result.score == pytest.approx([0.8])
    assert result.xyxy.tolist() == [[40, 40, 240, 240]]


def test_what_an_edge_cuts_is_left_to_the_neighbour() -> None:
    views = (View(tiling=Tiling(side_px=100, overlap_px=40)),)
    patches = looks(views, 160, 60)[0]
    assert [patch.crop for patch in patches] == [(0, 0, 100, 60), (60, 0, 160, 60)]
    cut, whole = one([85, 10, 100, 30], 0.9), one([25, 10, 55, 30], 0.7)
    result = merged(views, [[cut, whole]], 160, 60)
    assert result.xyxy.tolist() == [[85, 10, 115, 30]]
    assert result.score.tolist() == [0.7]


def test_what_is_larger_than_the_overlap_keeps_its_parts() -> None:
    views = (View(tiling=Tiling(side_px=100, overlap_px=40)),)
    result = merged(views, [[one([20, 10, 100, 50]), one([0, 10, 70, 50])]], 160, 60)
    assert len(result.score) == 2


def test_the_same_object_in_two_tiles_is_one_box() -> None:
    views = (View(tiling=Tiling(side_px=100, overlap_px=40)),)
    result = merged(views, [[one([70, 10, 90, 30], 0.6), one([10, 10, 30, 30], 0.9)]], 160, 60)
    assert result.xyxy.tolist() == [[70, 10, 90, 30]]
    assert result.score.tolist() == [0.9]


def test_boxes_in_the_padding_are_dropped() -> None:
    result = merged((View(),), [[one([50, 10, 60, 20])]], 50, 40)
    assert len(result.score) == 0


def test_nothing_found_is_an_empty_answer() -> None:
    views = (View(), View(scale=2.0))
    result = merged(views, [[Boxes.empty()], [Boxes.empty()]], 50, 40)
    assert result.xyxy.shape == (0, 4)


def test_patches_of_equal_views_are_not_asked_twice() -> None:
    views = (View(), View(tiling=Tiling()), View(whole_px=640))
    assert looks(views, 60, 40) == [[Patch(crop=(0, 0, 60, 40), width=60, height=40)]]
