"""Faster R-CNN: anchors propose boxes, and a second look at each proposal tells class and box.

Ren, He, Girshick, Sun 2015, "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal
Networks" (https://arxiv.org/abs/1506.01497), on the levels of a pyramid (Lin et al. 2017,
https://arxiv.org/abs/1612.03144). Heads, matching, sampling, losses, box coding and RoIAlign are
torchvision's (torchvision.models.detection.rpn, .roi_heads); the pyramid is timm's and begins at
stride 4. What differs, and why:

- The proposals are always as many, and chosen by arithmetic of fixed shape, see
  `smallobj.detectors.proposals`: so `forward` can be exported.
- All classes share one box, as Cascade R-CNN has it (Cai, Vasconcelos 2018, arXiv:1712.00726).
- Anchors are RetinaNet's of this project, and learn a box from an IoU of 0.5, not 0.7: a box of
  10 px reaches 0.7 with no anchor 4 px apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss
from torchvision.models.detection.rpn import (
    RegionProposalNetwork,
    RPNHead,
    concat_box_prediction_layers,
)
from torchvision.ops import clip_boxes_to_image

from smallobj.detectors.anchors import Anchors, check_ratios, decoded, matched, octave
from smallobj.detectors.backbone import BACKBONES
from smallobj.detectors.base import Detector, Target, in_float32
from smallobj.detectors.layers import start_from_nothing
from smallobj.detectors.levels import Levels
from smallobj.detectors.proposals import CPUSampler, PyramidRoIAlign, best_proposals
from smallobj.detectors.registry import register
from smallobj.detectors.similarity import AnchorsConfig, similarity_of


@dataclass(frozen=True, kw_only=True)
class FasterRCNNConfig(AnchorsConfig):
    """Settings of Faster R-CNN."""

    SIZES: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            **BACKBONES["tiny"],
            "width": 32,
            "proposals": 64,
            "box_channels": 64,
        },
        "small": {
            **BACKBONES["small"],
            "width": 48,
            "box_channels": 128,
        },
        "medium": {**BACKBONES["medium"], "width": 64, "proposals": 500, "box_channels": 256},
        "large": {
            **BACKBONES["large"],
            "width": 128,
            "proposals": 1000,
            "box_channels": 512,
            "roi_places": 7,
        },
    }

    anchor_strides: float = 2.0  # side of a level's smallest anchor, in strides of the level
    anchor_octaves: int = 2  # sides of anchors within a doubling
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)  # height to width
    proposals: int = 300  # boxes of an image that the second stage looks at
    proposal_iou: float = 0.7  # with a better proposal, above which one is left out
    roi_places: int = 5  # places a side that a proposal's features are pooled to
    box_channels: int = 256  # of the two layers of the second stage
    anchor_samples: int = 128  # anchors of an image that a step learns from, at most half positive
    box_samples: int = 64  # proposals of an image that a step learns from, at most a quarter so
    box_weight: float = 1.0  # of either stage's box loss beside the class losses' 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._between("anchor_strides", 0.5, 16)
        self._between("anchor_octaves", 1, 8)
        check_ratios("anchor_ratios", self.anchor_ratios)
        self._between("proposals", 1, 10_000)
        self._between("proposal_iou", 0, 1)
        self._between("roi_places", 1, 32)
        self._between("box_channels", 1, 8192)
        self._between("anchor_samples", 2, 100_000)
        self._between("box_samples", 4, 100_000)
        self._between("box_weight", 0, 1000)


@register("faster_rcnn")
class FasterRCNN(Detector):
    """Anchors propose boxes, each looked at again: torchvision's Faster R-CNN on a timm pyramid.

    Raw, over the N proposals of an image, best first: `proposals` [B, N, 4] xyxy in pixels, inside
    the image; `objectness` [B, N] in 0..1, 0 where a row only fills the count; `cls_logits`
    [B, N, 1 + C], background first; `bbox_regression` [B, N, 4] tenths of the shift of the centre
    in sides of the proposal (x, y) and fifths of the logarithm of the growth of its sides.
    """

    Config = FasterRCNNConfig
    licence = "BSD-3-Clause (torchvision)"
    chosen_by = "proposals"
    config: FasterRCNNConfig

    def __init__(self, config: FasterRCNNConfig) -> None:
        super().__init__(config, stride=config.coarsest)
        self.levels = Levels(config)
        sides = [config.anchor_strides * factor for factor in octave(config.anchor_octaves)]
        self.anchors = Anchors(config.strides, sides, config.anchor_ratios)
        self.first = _first_stage(config, self.anchors)
        self.similarity = similarity_of(config)
        self.second = _second_stage(config)

    def network(self, x: Tensor) -> dict[str, Tensor]:
        """See Detector."""
        maps = self.levels(x)
        objectness, codes = self._first_look(maps)
        proposals, score = self._proposals(objectness, codes, (x.shape[2], x.shape[3]))
        batch, count = score.shape
        image = torch.arange(batch, device=x.device)[:, None].expand(batch, count)
        logits, change = self._second_look(maps, proposals.flatten(0, 1), image.flatten())
        return {
            "proposals": proposals,
            "objectness": score,
            "cls_logits": logits.view(batch, count, -1),
            "bbox_regression": change.view(batch, count, 4),
        }

    def network_with_truth(self, x: Tensor, targets: Sequence[Target]) -> dict[str, Tensor]:
        """What both stages say in training, and what the second one is to learn.

        `objectness` logits [B, P] and `codes` [B, P, 4] of the anchors; of K sampled proposals, of
        which the true boxes are some: `cls_logits` [K, 1 + C], `bbox_regression` [K, 4], and their
        truth `labels` [K], 0 background, and `changes` [K, 4].
        """
        maps = self.levels(x)
        objectness, codes = self._first_look(maps)
        proposals, score = self._proposals(objectness, codes, (x.shape[2], x.shape[3]))
        sampled, _, labels, changes = self.second.select_training_samples(
            [boxes[valid] for boxes, valid in zip(proposals, score > 0, strict=True)],
            [{"boxes": t.xyxy, "labels": t.label + 1} for t in targets],
        )
        counts = torch.tensor([len(boxes) for boxes in sampled])
        image = torch.repeat_interleave(torch.arange(len(sampled)), counts).to(x.device)
        logits, change = self._second_look(maps, torch.cat(sampled), image)
        return {
            "objectness": objectness,
            "codes": codes,
            "cls_logits": logits,
            "bbox_regression": change,
            "labels": torch.cat(labels),
            "changes": torch.cat(changes),
        }

    def training_losses(
        self, x: Tensor, targets: Sequence[Target], image_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """See Detector: the second stage learns from proposals chosen with the truth in view."""
        raw = in_float32(self.network_with_truth(x, targets))
        with torch.autocast(x.device.type, enabled=False):
            return self.losses(raw, targets, image_size)

    def losses(
        self, raw: Mapping[str, Tensor], targets: Sequence[Target], image_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """torchvision's of both stages: cross entropy and smooth L1, means over the samples."""
        objectness, proposal = self._first_losses(raw, targets, image_size)
        every_class = raw["bbox_regression"].repeat(1, self.config.num_classes + 1)
        classification, box = fastrcnn_loss(
            raw["cls_logits"], every_class, [raw["labels"].long()], [raw["changes"]]
        )
        weight = self.config.box_weight
        return {
            "objectness": objectness,
            "proposal": weight * proposal,
            "classification": classification,
            "box": weight * box,
        }

    def boxes(
        self, raw: Mapping[str, Tensor], image_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Scores of the classes, 0 where a row only fills the count, and boxes of the proposals."""
        score = raw["cls_logits"].softmax(dim=2)[:, :, 1:]
        valid = (raw["objectness"] > 0)[:, :, None]
        coder = self.second.box_coder
        return score * valid, decoded(coder, raw["bbox_regression"], raw["proposals"])

    def _first_look(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits [B, P] and codes [B, P, 4] of every anchor."""
        logits, codes = concat_box_prediction_layers(*self.first.head(maps))
        batch = maps[0].shape[0]
        return logits.view(batch, -1), codes.view(batch, -1, 4)

    def _proposals(
        self, objectness: Tensor, codes: Tensor, image_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Boxes [B, N, 4] inside the image and their objectness [B, N]; no gradient."""
        xyxy = decoded(self.first.box_coder, codes.detach().float(), self.anchors(image_size))
        return best_proposals(
            objectness.detach().float().sigmoid(),
            clip_boxes_to_image(xyxy, image_size),
            count=self.config.proposals,
            most_iou=self.config.proposal_iou,
        )

    def _second_look(
        self, maps: list[Tensor], xyxy: Tensor, image: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Class logits [K, 1 + C] and changes [K, 4] of boxes [K, 4] of images [K]."""
        pooled = self.second.box_roi_pool(maps, xyxy, image)
        return self.second.box_predictor(self.second.box_head(pooled))

    def _first_losses(
        self, raw: Mapping[str, Tensor], targets: Sequence[Target], image_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        anchors = self.anchors(image_size)
        matches = matched(self.first.proposal_matcher, self.similarity, targets, anchors)
        learnt = [
            torch.cat((t.xyxy, anchors[:1]))[match.clamp(min=-1)]  # any box, where none is learnt
            for t, match in zip(targets, matches, strict=True)
        ]
        return self.first.compute_loss(
            raw["objectness"],
            raw["codes"].flatten(0, 1),
            # As torchvision's sampler reads them: 1 positive, 0 background, -1 neither.
            [(match.clamp(max=0) + 1).float() for match in matches],
            self.first.box_coder.encode(learnt, [anchors] * len(targets)),
        )


def _first_stage(config: FasterRCNNConfig, anchors: Anchors) -> RegionProposalNetwork:
    head = RPNHead(config.width, anchors.per_place)
    start_from_nothing(head.conv)
    none: dict[str, int] = {}  # the proposals are chosen by `best_proposals`
    stage = RegionProposalNetwork(
        anchors, head, 0.5, 0.3, config.anchor_samples, 0.5, none, none, config.proposal_iou
    )
    stage.fg_bg_sampler = CPUSampler(config.anchor_samples, 0.5)
    return stage


def _second_stage(config: FasterRCNNConfig) -> RoIHeads:
    head = TwoMLPHead(config.width * config.roi_places**2, config.box_channels)
    start_from_nothing(head)
    predictor = FastRCNNPredictor(config.box_channels, config.num_classes + 1)
    predictor.bbox_pred = nn.Linear(config.box_channels, 4)  # one box for all classes
    stage = RoIHeads(
        PyramidRoIAlign(config.strides, config.roi_places),
        head,
        predictor,
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.5,
        batch_size_per_image=config.box_samples,
        positive_fraction=0.25,
        bbox_reg_weights=None,  # torchvision's own
        score_thresh=config.min_score,
        nms_thresh=1.0,
        detections_per_img=config.max_candidates,
    )
    stage.fg_bg_sampler = CPUSampler(config.box_samples, 0.25)
    return stage
