from pathlib import Path
from typing import Annotated

import typer


def train(
    *,
    out: Annotated[Path, typer.Option(help="Folder of the run, runs/NAME.")],
    data: Annotated[
        Path | None, typer.Option(help="Labels in a known layout: a folder, or a file.")
    ] = None,
    arch: Annotated[
        str | None, typer.Option(help="Detector: see smallobj detectors.", show_default=False)
    ] = None,
    size: Annotated[str | None, typer.Option(help="tiny, small, medium or large (small).")] = None,
    backbone: Annotated[
        str | None, typer.Option(help="A timm name in place of the size's own.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Image folder, if not found.")] = None,
    kind: Annotated[
        str | None, typer.Option(help="Of the labels: challenge, coco, yolo or voc.")
    ] = None,
    names: Annotated[Path | None, typer.Option(help="File of class names, one a line.")] = None,
    voc_origin: Annotated[int | None, typer.Option(help="First pixel of VOC: 1 or 0 (1).")] = None,
    split: Annotated[
        str | None, typer.Option(help="The data's own part to train on, or a .txt of images.")
    ] = None,
    val: Annotated[Path | None, typer.Option(help="Labels to validate on.")] = None,
    val_split: Annotated[
        str | None, typer.Option(help="The data's own part to validate on, or a .txt of images.")
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(help="Deal the images into so many parts (the data's own val, else 5)."),
    ] = None,
    fold: Annotated[int | None, typer.Option(help="Part to validate on, from 0 (0).")] = None,
    crop: Annotated[int | None, typer.Option(help="Side of the crops, pixels (256).")] = None,
    batch: Annotated[int | None, typer.Option(help="Crops a step (16).")] = None,
    steps: Annotated[int | None, typer.Option(help="Length of the run (4000).")] = None,
    epochs: Annotated[float | None, typer.Option(help="Length, in turns through the data.")] = None,
    time_limit: Annotated[
        str | None, typer.Option(metavar="TIME", help="Length: 90s, 30m, 2h, validation included.")
    ] = None,
    optimizer: Annotated[str | None, typer.Option(help="adamw or sgd (adamw).")] = None,
    lr: Annotated[
        float | None, typer.Option(help="Highest learning rate (adamw 0.0015, sgd 0.02).")
    ] = None,
    weight_decay: Annotated[
        float | None, typer.Option(help="Not of norms and biases (adamw 0.05, sgd 0.0001).")
    ] = None,
    warmup_steps: Annotated[int | None, typer.Option(help="Of rising rate (100).")] = None,
    ema: Annotated[float | None, typer.Option(help="Decay of averaged weights (0.998).")] = None,
    clip: Annotated[float | None, typer.Option(help="Longest gradient; 0: any (10).")] = None,
    background: Annotated[
        float | None, typer.Option(help="Share of crops without an object (0.15).")
    ] = None,
    crops_per_image: Annotated[
        int | None, typer.Option(help="At most, a turn through the data (8).")
    ] = None,
    scale_jitter: Annotated[
        float | None, typer.Option(help="Half of the crops scaled by up to this (0.25).")
    ] = None,
    colour: Annotated[float | None, typer.Option(help="Strength of its change (0.2).")] = None,
    symmetry: Annotated[
        str | None, typer.Option(help="Flips and turns: all, mirror or none (all).")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="Best by: map50, map75 or map50_95 (map50).")
    ] = None,
    validate_every: Annotated[
        int | None, typer.Option(help="Steps (about a seventh of the time).")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random (0).")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, .. (auto).")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32 or bf16 (auto).")] = None,
    threads: Annotated[int | None, typer.Option(help="Of the CPU.")] = None,
    workers: Annotated[int | None, typer.Option(help="Threads that cut crops.")] = None,
    cache_mb: Annotated[
        float | None, typer.Option(help="Decoded images kept in memory, megabytes (2000).")
    ] = None,
    max_megapixels: Annotated[
        float | None, typer.Option(help="Larger images are refused (400).")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, as it was set.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin anew where --out holds a run.")
    ] = False,
) -> None:
    """Train a detector from random weights on your images.

    The best weights by --metric, averaged over the steps, go into --out; what they find in the
    images held out goes beside it, OUT.json, to be tuned and fused. Ctrl-C keeps what was learnt.

    Example: smallobj train --arch centernet --data photos --out runs/centernet --time-limit 30m
    """
    from smallobj.boxes import InputError
    from smallobj.training import (
        Interrupted,
        TrainConfig,
        duration,
        parse_duration,
        stderr_reporter,
    )
    from smallobj.training import resume as resume_run
    from smallobj.training import train as train_run

    settings = {
        "data": data,
        "arch": arch,
        "size": size,
        "backbone": backbone,
        "images": images,
        "kind": kind,
        "names": names,
        "voc_origin": voc_origin,
        "split": split,
        "val": val,
        "val_split": val_split,
        "folds": folds,
        "fold": fold,
        "batch": batch,
        "steps": steps,
        "epochs": epochs,
        "time_limit": None if time_limit is None else parse_duration(time_limit),
        "optimizer": optimizer,
        "lr": lr,
        "weight_decay": weight_decay,
        "warmup_steps": warmup_steps,
        "ema": ema,
        "clip": clip,
        "metric": metric,
        "validate_every": validate_every,
        "seed": seed,
        "device": device,
        "precision": precision,
        "threads": threads,
        "workers": workers,
        "cache_mb": cache_mb,
        "max_megapixels": max_megapixels,
    }
    crops = {
        "crop": crop,
        "background": background,
        "crops_per_image": crops_per_image,
        "scale_jitter": scale_jitter,
        "colour": colour,
        "symmetry": symmetry,
    }
    given: dict[str, object] = {n: value for n, value in settings.items() if value is not None}
    given["crops"] = {name: value for name, value in crops.items() if value is not None}
    if resume and overwrite:
        raise InputError("--resume and --overwrite exclude each other")
    try:
        with stderr_reporter() as reporter:
            if resume:
                result = resume_run(out, given, reporter=reporter)
            else:
                config = TrainConfig.from_dict(given)
                result = train_run(config, out, overwrite=overwrite, reporter=reporter)
    except Interrupted as stopped:
        raise typer.Exit(stopped.status) from None
    scores = ", ".join(f"{name} {score:.4f}" for name, score in result.manifest.scores.items())
    typer.echo(
        f"{result.folder}: {scores} at step {result.best_step} of {result.steps}, "
        f"{duration(result.seconds)}"
    )
    typer.echo(f"{result.run}: what it finds in the images held out")
    if result.stopped is not None:
        typer.echo(f"ended early: {result.stopped}; the last good weights are kept", err=True)
        raise typer.Exit(1)
