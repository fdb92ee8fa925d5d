"""What RT-DETR and D-FINE share: a pyramid, an encoder, chosen places that are refined.

Zhao et al. 2023, "DETRs Beat YOLOs on Real-time Object Detection"
(https://arxiv.org/abs/2304.08069). Encoder, decoder, denoising, matching and losses are those of
the library transformers, which is imported once such a detector is built. Ours are the pyramid
(timm's, with its finest level at stride 4), the start of the weights (the library's own is made
for trained ones: scales of batch norm near 0) and the choice of places: anchors are so many
strides of their level wide, not a share of the image, and no place at the border is left out, so
that an object looks the same in a crop and in a tile of another size.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from smallobj.boxes import InputError
from smallobj.detectors.backbone import Pyramid
from smallobj.detectors.base import Detector, Target
from smallobj.detectors.layers import prior_bias
from smallobj.detectors.levels import StridesConfig
from smallobj.detectors.places import PRIOR, Positions, Queries, Selection, anchors


@dataclass(frozen=True, kw_only=True)
class DetrConfig(StridesConfig):
    """Settings of detectors that refine queries."""

    COARSEST: ClassVar[tuple[int, ...]] = (8, 16, 32)  # this level attends to itself

    width: int = 128  # channels of every level and query; a power of two times `heads`
    heads: int = 8  # of attention
    feedforward: int = 256  # channels inside each block of attention
    expansion: float = 0.5  # channels of the encoder's blocks, in parts of `width`
    decoder_layers: int = 3  # refinements of each query
    points: int = 4  # places a level that each head of a query looks at
    queries: int = 300  # most objects an image
    denoising: int = 100  # disturbed true boxes an image that training mends besides; 0: none
    anchor_strides: float = 4.0  # side of a level's first guess, in strides of the level

    def __post_init__(self) -> None:
        super().__post_init__()
        self._between("width", 8, 4096)
        self._between("heads", 1, 64)
        channels, rest = divmod(self.width, self.heads)
        if rest or self.width % 4 or channels & (channels - 1):
            raise InputError(
                f"must be a multiple of 4, and {self.heads} heads times a power of two",
                field="width",
                value=self.width,
            )
        self._between("feedforward", 1, 65536)
        self._between("expansion", 0.25, 4)
        self._between("decoder_layers", 1, 32)
        self._between("points", 1, 64)
        self._between("queries", 1, 10_000)
        self._between("denoising", 0, 10_000)
        self._between("anchor_strides", 0.5, 64)


class Detr(Detector):
    """Queries chosen among the places of all levels, refined by a decoder.

    Raw, of the decoder's last layer: `logits` [B, Q, C]; `boxes` [B, Q, 4] centre x, y, width,
    height in parts of the image. A subclass names transformers' part and gives its heads.
    """

    family: ClassVar[str]  # transformers' name of the model's folder
    prefix: ClassVar[str]  # of its classes' names
    licence = "Apache-2.0 (transformers)"
    needs = "smallobj[detr]"
    chosen_by = "boxes"
    config: DetrConfig

    def __init__(self, config: DetrConfig) -> None:
        super().__init__(config, stride=config.coarsest)
        width, classes = config.width, config.num_classes
        self.settings = self._settings()
        self.body = Pyramid(
            config.backbone,
            config.backbone_options,
            finest=config.finest,
            coarsest=config.coarsest,
        )
        self.project = nn.ModuleList(projection(c, width) for c in self.body.channels)
        self.encoder = self.part("HybridEncoder")(self.settings)
        self.encoder.aifi[0].position_embedding = Positions(width)
        self.lanes = nn.ModuleList(self.lane() for _ in config.strides)
        self.select = Selection(
            width, classes, config.queries, self.part("MLPPredictionHead")(width, width, 4, 3)
        )
        self.decoder = self.part("Decoder")(self.settings)
        self.decoder.class_embed = nn.ModuleList(
            nn.Linear(width, classes) for _ in range(config.decoder_layers)
        )
        self.decoder.bbox_embed = nn.ModuleList(
            self.box_head() for _ in range(config.decoder_layers)
        )
        # A row a class and one of zeros for images with fewer boxes than another of the batch.
        self.labels = nn.Embedding(classes + 1, width, padding_idx=classes)
        self._start()

    @abstractmethod
    def lane(self) -> nn.Module:
        """From a level of the encoder to one of the decoder."""

    @abstractmethod
    def box_head(self) -> nn.Module:
        """What a layer of the decoder tells boxes by."""

    @abstractmethod
    def criterion(self) -> Any:
        """transformers' loss of outputs and labels by kind and layer."""

    @abstractmethod
    def layers(self, decoded: Any, queries: slice) -> list[dict[str, Tensor]]:
        """What each layer of the decoder says of some queries, as the criterion wants it."""

    @classmethod
    def part(cls, name: str) -> Any:
        """A class of the family's in transformers."""
        return getattr(cls.module(), cls.prefix + name)

    @classmethod
    def module(cls) -> Any:
        """Of the family in transformers."""
        return library(f"models.{cls.family}.modeling_{cls.family}")

    def network(self, x: Tensor) -> dict[str, Tensor]:
        """See Detector."""
        decoded, _, _ = self._decoded(x, ())
        return {
            "logits": decoded.intermediate_logits[:, -1],
            "boxes": decoded.intermediate_reference_points[:, -1],
        }

    def training_losses(
        self, x: Tensor, targets: Sequence[Target], image_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Of every layer, of the chosen places and, in training mode, of denoising."""
        labels = in_parts(targets, image_size)
        decoded, chosen, noise = self._decoded(x, labels)
        with torch.autocast(x.device.type, enabled=False):
            disturbed = noise["dn_num_split"][0] if noise else 0
            layers = self.layers(decoded, slice(disturbed, None))
            outputs: dict[str, Any] = layers.pop()
            places = {"logits": chosen.logits.float(), "pred_boxes": chosen.boxes.sigmoid()}
            outputs["auxiliary_outputs"] = [*layers, places]
            if noise:
                outputs["dn_auxiliary_outputs"] = self.layers(decoded, slice(0, disturbed))
                outputs["denoising_meta_values"] = noise
            losses = self._summed(outputs, labels)
            # Without a box no label is embedded, yet distributed training waits for the gradient.
            return losses | {"vfl": losses["vfl"] + 0 * self.labels.weight.sum()}

    def losses(
        self, raw: Mapping[str, Tensor], targets: Sequence[Target], image_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Of the decoder's last layer alone: class and box after the cheapest assignment."""
        outputs = {"logits": raw["logits"], "pred_boxes": raw["boxes"]}
        return self._summed(outputs, in_parts(targets, image_size))

    def boxes(
        self, raw: Mapping[str, Tensor], image_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Scores and boxes of all queries."""
        height, width = image_size
        xyxy = box_convert(raw["boxes"], "cxcywh", "xyxy")
        # In float64: in float32 the last bit depends on where in a batch a number stands.
        score = raw["logits"].double().sigmoid().float()
        return score, xyxy * xyxy.new_tensor([width, height, width, height])

    def _settings(self) -> Any:
        """transformers' config; what belongs to its own backbone is not used."""
        config, levels = self.config, len(self.config.strides)
        return getattr(library(""), f"{self.prefix}Config")(
            num_labels=config.num_classes,
            encoder_in_channels=[config.width] * levels,
            feat_strides=list(config.strides),
            encode_proj_layers=[levels - 1],
            encoder_hidden_dim=config.width,
            encoder_ffn_dim=config.feedforward,
            encoder_attention_heads=config.heads,
            hidden_expansion=config.expansion,
            d_model=config.width,
            num_queries=config.queries,
            decoder_in_channels=[config.width] * levels,
            decoder_ffn_dim=config.feedforward,
            decoder_attention_heads=config.heads,
            decoder_n_points=config.points,
            decoder_n_levels=levels,
            num_feature_levels=levels,
            decoder_layers=config.decoder_layers,
            num_denoising=config.denoising,
            **self.extra_settings(),
        )

    def extra_settings(self) -> dict[str, Any]:
        """What the family's own config of transformers has besides."""
        return {}

    @torch.no_grad()
    def _start(self) -> None:
        """torch's own random weights, then those that the library means to start at a value."""
        for module in (*self.encoder.modules(), *self.decoder.modules()):
            if isinstance(module, nn.Linear | nn.Conv2d | nn.BatchNorm2d):
                module.reset_parameters()
        for module in self.decoder.modules():
            if not type(module).__module__.startswith("torch."):
                self.decoder._init_weights(module)
        for head in self.decoder.class_embed:
            nn.init.constant_(head.bias, prior_bias(PRIOR))
        for head in self.decoder.bbox_embed:
            nn.init.zeros_(head.layers[-1].weight)
            nn.init.zeros_(head.layers[-1].bias)

    def _decoded(
        self, x: Tensor, labels: Sequence[Mapping[str, Tensor]]
    ) -> tuple[Any, Queries, dict[str, Any] | None]:
        """The decoder's output, what it started from, and which queries are disturbed boxes."""
        maps = [project(m) for project, m in zip(self.project, self.body(x), strict=True)]
        maps = self.encoder(maps).last_hidden_state
        # In float32 from here: half a precision's steps are pixels of a large image.
        maps = [lane(m).float() for lane, m in zip(self.lanes, maps, strict=True)]
        memory = torch.cat([m.flatten(2).transpose(1, 2) for m in maps], dim=1)
        chosen = self.select(memory, anchors(maps, self.config.anchor_strides))
        features, boxes, mask, noise = chosen.features.detach(), chosen.boxes.detach(), None, None
        if self.training and self.config.denoising and any(len(t["boxes"]) for t in labels):
            label, box, mask, noise = self.module().get_contrastive_denoising_training_group(
                targets=labels,
                num_classes=self.config.num_classes,
                num_queries=self.config.queries,
                class_embed=self.labels,
                num_denoising_queries=self.config.denoising,
                label_noise_ratio=self.settings.label_noise_ratio,
                box_noise_scale=self.settings.box_noise_scale,
            )
            features, boxes = torch.cat([label, features], 1), torch.cat([box, boxes], 1)
        shapes = [tuple(m.shape[-2:]) for m in maps]
        decoded = self.decoder(
            inputs_embeds=features,
            reference_points=boxes,
            encoder_hidden_states=memory,
            encoder_attention_mask=mask,
            # Only checked there, which an export takes of numbers, but not of a tensor.
            spatial_shapes=np.array(shapes, dtype=object),
            spatial_shapes_list=shapes,
        )
        return decoded, chosen, noise

    def _summed(
        self, outputs: Mapping[str, Any], labels: Sequence[Mapping[str, Tensor]]
    ) -> dict[str, Tensor]:
        """The criterion's losses, those of one kind as one."""
        wrong = outputs["logits"].sum() + outputs["pred_boxes"].sum()
        if not bool(torch.isfinite(wrong)):
            return {"vfl": wrong * float("nan")}  # the library would raise at its matching
        criterion = self.criterion().to(wrong.device)
        kinds: dict[str, Tensor] = {}
        for name, loss in criterion(outputs, labels).items():
            kind = name.split("_")[1]  # loss_giou, loss_giou_aux_0, loss_giou_dn_0
            kinds[kind] = kinds[kind] + loss if kind in kinds else loss
        return kinds


def projection(channels: int, width: int) -> nn.Sequential:
    """A convolution of single places without bias, and its batch norm."""
    return nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width))


def in_parts(targets: Sequence[Target], image_size: tuple[int, int]) -> list[dict[str, Tensor]]:
    """True boxes as transformers wants them: what is inside the image, in parts of it."""
    height, width = image_size
    labels = []
    for xyxy, label in targets:
        limit = xyxy.new_tensor([width, height, width, height])
        inside = xyxy.clamp(min=0).minimum(limit)
        seen = (inside[:, 2:] > inside[:, :2]).all(dim=1)
        boxes = box_convert(inside[seen] / limit, "xyxy", "cxcywh")
        labels.append({"class_labels": label[seen], "boxes": boxes})
    return labels


def library(module: str) -> Any:
    """transformers or a module of it; InputError with the command that installs it."""
    try:
        return import_module(f"transformers.{module}".rstrip("."))
    except ImportError as error:
        raise InputError(
            'this detector needs the package transformers: pip install "smallobj[detr]"'
        ) from error
