"""What `show` draws: a run on the images at hand, with the labels where they are given."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from smallobj.cli.scored import run_repairs, tell

if TYPE_CHECKING:
    from smallobj.boxes import BoxTable
    from smallobj.datasets import ImageSource
    from smallobj.formats import Labels


class Seen(NamedTuple):
    """Images that were found, in the order of their names, and the boxes on them."""

    truth: "BoxTable | None"
    table: "BoxTable"
    sources: "list[ImageSource]"  # one an image
    folder: Path | None  # of the images, where it is one


def read_labelled(
    path: Path,
    inputs: Sequence[str],
    labels: Path,
    *,
    kind: str | None,
    split: str | None,
    names: Path | None,
    voc_origin: int,
    strict: bool,
    classes: Sequence[str],
    unit: str | None,
) -> Seen:
    """The run on the images of the labels; those that are not among `inputs` are told."""
    from smallobj.formats import align_runs, read_labels, read_run_classes, read_runs
    from smallobj.formats.faults import Stop

    class BrokenImagesPass(Stop):
        """They are told when they are drawn."""

        def add(self, kind: str, reason: str, **place: Any) -> None:
            if kind != "unreadable image":
                super().add(kind, reason, **place)

    folder = Path(inputs[0]) if len(inputs) == 1 and Path(inputs[0]).is_dir() else None
    truth = read_labels(
        labels,
        images=folder,
        kind=kind,
        split=split,
        names=names,
        voc_origin=voc_origin,
        faults=BrokenImagesPass(strict=strict),
    )
    said = read_run_classes(classes, [path])
    runs = read_runs([path], labels=truth, classes=said, unit=unit, strict=strict)
    table = truth.table
    aligned = align_runs(runs, images=table.images, classes=table.classes)
    tell([*(f"{labels}: {line}" for line in truth.repairs.lines()), *run_repairs(runs)])
    tell(aligned.notes)
    sources = _found(table.images.ids, inputs, path) if inputs else _beside(truth)
    return _in_name_order(table, aligned.tables[0], sources, folder or truth.root)


def read_unlabelled(
    path: Path, inputs: Sequence[str], *, classes: Sequence[str], unit: str | None
) -> Seen:
    """The run on those of its images that are among `inputs`."""
    from smallobj.boxes import InputError
    from smallobj.formats import in_pixels, read_run_classes, read_runs

    if not inputs:
        raise InputError("no images given: name their folder, or labels that lie beside them")
    (run,) = read_runs([path], classes=read_run_classes(classes, [path]), unit=unit)
    folder = Path(inputs[0]) if len(inputs) == 1 and Path(inputs[0]).is_dir() else None
    if run.unit == "normalised":
        run = in_pixels(run, image_folder=folder)
        if run.unit == "normalised":
            reason = "has boxes as fractions of the image: name the folder of the images, alone"
            raise InputError(reason, file=path)
    tell(run_repairs([run]))
    return _in_name_order(None, run.table, _found(run.table.images.ids, inputs, path), folder)


def cut_scores(
    seen: Seen, *, min_score: float | None, recipe: Path | None, iou: float, most: int | None
) -> "tuple[BoxTable, str]":
    """The boxes that are shown, by score, and in words which those are.

    Those of the recipe's working point, or of `min_score`; where neither is said, those from the
    score of the highest F1, or, without labels, from 0.3.
    """
    from smallobj.boxes import InputError
    from smallobj.ensemble import read_recipe
    from smallobj.ensemble.operating_point import apply_thresholds
    from smallobj.report.judged import best_threshold

    if recipe is not None:
        point = read_recipe(recipe).operating_point
        if point is None:
            reason = "holds no score thresholds: tune with --operating-point"
            raise InputError(reason, file=recipe, field="operating_point")
        return apply_thresholds(seen.table, point), f"score thresholds of {recipe.name}"
    words = ""
    if min_score is None and seen.truth is not None:
        min_score = best_threshold(seen.truth, seen.table, iou=iou, max_detections=most)
        words = ", where F1 is highest"
    low = 0.3 if min_score is None else min_score
    assert seen.table.score is not None
    return seen.table.filter_rows(seen.table.score >= low), f"score {low:.4g} and more{words}"


def _found(ids: Sequence[str], inputs: Sequence[str], run: Path) -> "list[ImageSource | None]":
    from smallobj.boxes import InputError
    from smallobj.formats import match_ids
    from smallobj.prediction import find_images

    files = find_images(*inputs)
    index = match_ids(ids, files.ids, wanted_file=run, given_file=", ".join(inputs))
    if not (index >= 0).any():
        reason = f"none of these {len(files.ids)} images is named in the run or its labels"
        hint = " (a run of COCO's numbers needs --labels)" if ids[0].isdigit() else ""
        raise InputError(f"{reason}, which begin with {ids[0]}{hint}", file=", ".join(inputs))
    return [None if place < 0 else files.paths[place] for place in index.tolist()]


def _beside(labels: "Labels") -> "list[ImageSource | None]":
    from smallobj.boxes import InputError

    if labels.images_clash is not None:
        raise labels.images_clash
    if not any(labels.found):
        raise InputError("no images lie beside these labels: name their folder", file=labels.path)
    return list(labels.found)


def _in_name_order(
    truth: "BoxTable | None",
    table: "BoxTable",
    sources: "list[ImageSource | None]",
    folder: Path | None,
) -> Seen:
    from smallobj.formats import natural_key

    ids = table.images.ids
    there = [place for place, source in enumerate(sources) if source is not None]
    if len(there) < len(ids):
        lacking = next(image_id for image_id, s in zip(ids, sources, strict=True) if s is None)
        tell([f"{len(ids) - len(there)} of {len(ids)} images are not there ({lacking}); left out"])
    order = sorted(there, key=lambda place: natural_key(ids[place]))
    chosen = table.take_images(order)
    true = None if truth is None else truth.take_images(order)
    if true is not None:
        chosen = replace(chosen, images=true.images)
    return Seen(true, chosen, [s for place in order if (s := sources[place]) is not None], folder)
