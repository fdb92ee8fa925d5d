"""Both assigners: every box is learnt, a place learns one; SimOTA beside a slow plain reference."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from smallobj.boxes import InputError
from smallobj.detectors import Target, build_detector
from smallobj.detectors.assigner import (
    Assigner,
    Candidates,
    SimOTAAssigner,
    TaskAlignedAssigner,
    boxes_of,
    places_of,
)

SIMOTA = SimOTAAssigner(radius=1.5)
TASK = TaskAlignedAssigner(alpha=1.0, beta=6.0, topk=13, radius=1.5)
CPU = torch.device("cpu")

Triple = tuple[int, int, float]  # box, place, quality


def told(assigner: Assigner, *given: Tensor | Candidates) -> list[Triple]:
    box, place, quality = assigner.assign(*given)  # type: ignore[arg-type]
    return sorted(zip(box.tolist(), place.tolist(), quality.tolist(), strict=True))


def candidates(place: list[list[int]]) -> Candidates:
    """Of these places, -1 none."""
    rows = torch.tensor(place)
    return Candidates(rows.clamp(min=0), rows >= 0)


def test_so_many_places_learn_a_box_as_its_overlaps_add_up_to() -> None:
    """0.9 + 0.8 + 0.5 + 0.1 is 2.3: the two of least cost, of which the class makes one."""
    score = torch.tensor([[0.5, 0.01, 0.9, 0.9, 0.9]])
    iou = torch.tensor([[0.9, 0.8, 0.5, 0.1, 1.0]])
    offered = candidates([[3, 5, 6, 8, -1]])
    # Costs 1.01, 5.27, 2.18, 7.01.
    found = told(SIMOTA, torch.tensor([0]), offered, score, iou)
    assert found == [(0, 3, pytest.approx(0.9)), (0, 6, pytest.approx(0.5))]


def test_a_box_that_nothing_overlaps_yet_has_its_likeliest_place() -> None:
    score, iou = torch.tensor([[0.2, 0.3, 0.1]]), torch.zeros(1, 3)
    assert told(SIMOTA, torch.tensor([0]), candidates([[3, 5, 6]]), score, iou) == [(0, 5, 0.0)]


def test_a_place_goes_to_the_box_it_costs_least_and_the_other_finds_a_free_one() -> None:
    """Place 3 costs the first 2.18 and the second, which it overlaps more, 2.23."""
    score, iou = torch.tensor([[0.9, 0.1], [0.5, 0.1]]), torch.tensor([[0.5, 0.3], [0.6, 0.3]])
    offered = candidates([[3, 4], [3, 5]])
    first, second = told(SIMOTA, torch.tensor([0, 0]), offered, score, iou)
    assert first[:2] == (0, 3)
    assert second[:2] == (1, 5)
    apart = told(SIMOTA, torch.tensor([0, 1]), offered, score, iou)
    assert [row[:2] for row in apart] == [(0, 3), (1, 3)]


Costs = dict[tuple[int, int], float]  # of a box and a place
Taken = dict[tuple[int, int], int]  # of an image and a place, the box


def costs_of(offered: Candidates, score: Tensor, iou: Tensor) -> Costs:
    costs = {}
    for box, k in offered.possible.nonzero().tolist():
        s, o = max(float(score[box, k]), 1e-8), max(float(iou[box, k]), 1e-8)
        costs[box, int(offered.place[box, k])] = -math.log(s) - 3 * math.log(o)
    return costs


def cheapest(box: int, costs: Costs) -> list[int]:
    """Its places."""
    return sorted((p for b, p in costs if b == box), key=lambda place: costs[box, place])


def settled(image: list[int], asked: list[tuple[int, int]], costs: Costs) -> Taken:
    """Of the boxes that ask for a place the one that pays least."""
    taken: Taken = {}
    for box, place in asked:
        rival = taken.setdefault((image[box], place), box)
        if costs[box, place] < costs[rival, place]:
            taken[image[box], place] = box
    return taken


def slowly(
    image: list[int], offered: Candidates, score: Tensor, iou: Tensor
) -> set[tuple[int, int]]:
    """Boxes and places in plain loops: first one place a box in rounds, then what k allows."""
    costs, taken = costs_of(offered, score, iou), Taken()
    while True:
        asked = []
        for box in set(range(len(image))) - set(taken.values()):
            free = [p for p in cheapest(box, costs) if (image[box], p) not in taken]
            asked += [(box, place) for place in free[:1]]
        if not asked:
            break
        taken |= settled(image, asked, costs)
    further = []
    for box, at in enumerate(image):
        best = sorted(iou[box][offered.possible[box]].tolist(), reverse=True)[:10]
        wanted = cheapest(box, costs)[: max(1, int(sum(best)))]
        further += [(box, place) for place in wanted if (at, place) not in taken]
    taken |= settled(image, further, costs)
    return {(box, place) for (_, place), box in taken.items()}


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 7), st.integers(1, 12), st.integers(0, 10_000))
def test_simota_is_the_plain_reference(boxes: int, offered: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    image = torch.arange(boxes) // 4
    place = torch.stack(
        [torch.randperm(15, generator=random)[:offered] for _ in range(boxes)]
        or [torch.zeros(offered, dtype=torch.int64)]
    )[:boxes]
    possible = torch.rand(boxes, offered, generator=random) < 0.8
    score, iou = torch.rand(2, boxes, offered, generator=random)
    given = Candidates(place, possible)
    found = told(SIMOTA, image, given, score, iou)
    assert {(box, place) for box, place, _ in found} == slowly(image.tolist(), given, score, iou)
    for box, where, quality in found:
        (at,) = (place[box] == where).nonzero()[:, 0].tolist()
        assert quality == float(iou[box, at])


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 12), st.integers(0, 1000))
@pytest.mark.parametrize("assigner", [TASK, SIMOTA])
def test_every_box_is_learnt_and_a_place_learns_one(
    assigner: Assigner, boxes: int, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    corner = torch.rand(boxes, 2, generator=random) * torch.tensor([96.0, 64])
    side = torch.rand(boxes, 2, generator=random) * 40 + 1
    labels = torch.zeros(boxes, dtype=torch.int64)
    true = boxes_of([Target(torch.cat((corner, corner + side), dim=1), labels)])
    offered = assigner.candidates(true, places_of((4, 8, 16), (64, 96), CPU), (64, 96))
    score, iou = torch.rand(2, *offered.place.shape, generator=random)
    box, place, quality = assigner.assign(true.image, offered, score, iou)
    assert box.unique().tolist() == list(range(boxes))
    assert len(place.unique()) == len(place)
    assert bool(((quality >= 0) & (quality <= 1)).all())


def test_yolo_learns_by_either_and_names_them() -> None:
    grey = (110.0,) * 3
    given = {"num_classes": 2, "mean": grey, "std": grey, "size": "tiny"}
    detector = build_detector("yolo", **given, assigner="simota")  # type: ignore[arg-type]
    assert isinstance(detector.assigner, SimOTAAssigner)
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    target = Target(torch.tensor([[20.0, 20, 28, 30]]), torch.tensor([1]))
    nothing = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    torch.stack(list(detector(images, [target, nothing]).values())).sum().backward()
    assert all(weight.grad is not None for weight in detector.parameters())
    with pytest.raises(InputError, match="field assigner: must be one of task, simota"):
        build_detector("yolo", **given, assigner="atss")  # type: ignore[arg-type]
