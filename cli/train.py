from pathlib import Path
from typing import Annotated

import typer


def train(
    *,
    out: Annotated[Path, typer.Option(help="Folder of the trained model, runs/NAME.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the training in --out, as it was set.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin anew where --out holds a model.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel="Data",
            help="Labels of the images to learn from: a folder or a file of labels.",
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            show_default="beside the labels", rich_help_panel="Data", help="Folder of the images."
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            show_default="by content",
            rich_help_panel="Data",
            help="Format of the labels: challenge, coco, yolo or voc.",
        ),
    ] = None,
    names: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel="Data",
            help="File of class names, one a line, where the labels give none.",
        ),
    ] = None,
    voc_origin: Annotated[
        int | None,
        typer.Option(
            show_default="1",
            rich_help_panel="Data",
            help="What Pascal VOC files call the first pixel: 1 or 0.",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            show_default="train, if there is one",
            rich_help_panel="Data",
            help="Part of the data set to train on, or a .txt with an image a line.",
        ),
    ] = None,
    val: Annotated[
        Path | None,
        typer.Option(rich_help_panel="Data", help="A data set to validate on, read like --data."),
    ] = None,
    val_split: Annotated[
        str | None,
        typer.Option(
            show_default="val, if there is one",
            rich_help_panel="Data",
            help="Part to validate on, or a .txt with an image a line.",
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            show_default="5 without a part to validate on",
            rich_help_panel="Data",
            help="Deal the images into so many folds, alike in classes and boxes.",
        ),
    ] = None,
    fold: Annotated[
        int | None,
        typer.Option(
            show_default="0",
            rich_help_panel="Data",
            help="Fold to validate on, from 0; the others train.",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel="Detector",
            help="Named settings where you give none: baseline-300, an SSD on ResNet-50 that sees"
            " whole images squashed.",
        ),
    ] = None,
    arch: Annotated[
        str | None,
        typer.Option(
            rich_help_panel="Detector", help="Detector to train; smallobj detectors lists them."
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            show_default="small, of yolo n",
            rich_help_panel="Detector",
            help="Size of the detector; smallobj detectors lists them all.",
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            show_default="the size's own",
            rich_help_panel="Detector",
            help="Any timm backbone with feature maps, by name.",
        ),
    ] = None,
    levels: Annotated[
        str | None,
        typer.Option(
            metavar="A-B",
            show_default="the size's own",
            rich_help_panel="Detector",
            help="Levels that the detector looks at, of stride 2^A to 2^B px: 2-5, 3-6, ...",
        ),
    ] = None,
    norm: Annotated[
        str | None,
        typer.Option(
            show_default="batch",
            rich_help_panel="Detector",
            help="batch, or group: no batch norm anywhere, for small batches.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            rich_help_panel="Detector",
            help="Another setting of the detector, say neck=pafpn or width=96; may be repeated.",
        ),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            show_default="random weights",
            rich_help_panel="First weights",
            help="Begin from a model of your own: its detector, and every weight that fits.",
        ),
    ] = None,
    pretrained: Annotated[
        bool | None,
        typer.Option(
            "--pretrained",
            show_default="never",
            rich_help_panel="First weights",
            help="Begin from the weights timm offers for the backbone, and download them. The"
            " manifest tells, as contests may forbid it.",
        ),
    ] = None,
    freeze: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            show_default="0",
            rich_help_panel="First weights",
            help="The first N stages of the backbone keep their weights.",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            show_default="4000", rich_help_panel="Length", help="Length of the training in steps."
        ),
    ] = None,
    epochs: Annotated[
        float | None,
        typer.Option(
            rich_help_panel="Length",
            help="Length of the training in passes over the data, instead of steps.",
        ),
    ] = None,
    time_limit: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            rich_help_panel="Length",
            help="Length of the training in time, instead of steps: 90s, 30m, 2h. The first steps"
            " tell how many fit.",
        ),
    ] = None,
    validate_every: Annotated[
        int | None,
        typer.Option(
            show_default="about a seventh of the time",
            rich_help_panel="Length",
            help="Steps between two validations.",
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            show_default="map50",
            rich_help_panel="Length",
            help="What the best weights are best by: map50, map75 or map50_95.",
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(show_default="16", rich_help_panel="Learning", help="Crops in each step."),
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            show_default="adamw", rich_help_panel="Learning", help="Optimizer: adamw, adam or sgd."
        ),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(
            show_default="adamw 0.004, adam 0.001, sgd 0.02",
            rich_help_panel="Learning",
            help="Highest learning rate.",
        ),
    ] = None,
    weight_decay: Annotated[
        float | None,
        typer.Option(
            show_default="adamw 0.05, adam 0, sgd 0.0001",
            rich_help_panel="Learning",
            help="Weight decay, of all but norms and biases.",
        ),
    ] = None,
    momentum: Annotated[
        float | None,
        typer.Option(
            show_default="0.9",
            rich_help_panel="Learning",
            help="Momentum of sgd; of adamw and adam the first beta.",
        ),
    ] = None,
    warmup_steps: Annotated[
        int | None,
        typer.Option(
            show_default="100",
            rich_help_panel="Learning",
            help="Steps over which the learning rate rises; at most a quarter of all.",
        ),
    ] = None,
    ema: Annotated[
        float | None,
        typer.Option(
            show_default="0.998",
            rich_help_panel="Learning",
            help="Decay of the averaged weights, which are the ones that are kept.",
        ),
    ] = None,
    clip: Annotated[
        float | None,
        typer.Option(
            show_default="10",
            rich_help_panel="Learning",
            help="Gradients are shortened to at most this norm; 0: never.",
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="fp32|fp16|bf16",
            show_default="fp32",
            rich_help_panel="Learning",
            help="Precision of the weights that are kept; they are validated as they are stored.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            show_default="0", rich_help_panel="Learning", help="Seed of everything random."
        ),
    ] = None,
    input: Annotated[
        str | None,
        typer.Option(
            show_default="crops",
            metavar="crops|squash",
            rich_help_panel="Samples",
            help="What the detector sees: crops at the scale of the photograph, or whole images"
            " squashed to --crop pixels a side, whatever their shape.",
        ),
    ] = None,
    crop: Annotated[
        int | None,
        typer.Option(
            show_default="256",
            rich_help_panel="Samples",
            help="Side in pixels of the crops or squashed images that the detector learns from.",
        ),
    ] = None,
    crops_per_image: Annotated[
        int | None,
        typer.Option(
            show_default="8",
            rich_help_panel="Samples",
            help="Most crops taken from an image in one pass over the data.",
        ),
    ] = None,
    background: Annotated[
        float | None,
        typer.Option(
            show_default="0.15",
            rich_help_panel="Samples",
            help="Share of the crops at places without an object.",
        ),
    ] = None,
    balance: Annotated[
        float | None,
        typer.Option(
            show_default="0",
            rich_help_panel="Samples",
            help="How far rare classes are aimed at oftener: 0, as labelled, to 1, all alike.",
        ),
    ] = None,
    scale_jitter: Annotated[
        float | None,
        typer.Option(
            show_default="0.25",
            rich_help_panel="Samples",
            help="Half of the crops are scaled by up to 1 + this, or down by as much.",
        ),
    ] = None,
    mosaic: Annotated[
        float | None,
        typer.Option(
            show_default="0",
            rich_help_panel="Samples",
            help="Share of the crops that are put together from four images.",
        ),
    ] = None,
    paste: Annotated[
        float | None,
        typer.Option(
            show_default="0",
            rich_help_panel="Samples",
            help="Share of the crops into which 1 to 3 objects of other images are pasted.",
        ),
    ] = None,
    colour: Annotated[
        float | None,
        typer.Option(
            show_default="0.2",
            rich_help_panel="Samples",
            help="Strength of the change of colours; 0: none.",
        ),
    ] = None,
    symmetry: Annotated[
        str | None,
        typer.Option(
            show_default="all",
            rich_help_panel="Samples",
            help="Flips and turns of the crops: all, mirror (left and right alone) or none.",
        ),
    ] = None,
    stages: Annotated[
        str | None,
        typer.Option(
            metavar="SCALE:SHARE,...",
            show_default="native scale throughout",
            rich_help_panel="Samples",
            help="Learn at lower scales first: 0.5:0.4 shows the first 0.4 of the steps the same"
            " places at half the scale, in crops of half the side, which cost a quarter.",
        ),
    ] = None,
    plain_end: Annotated[
        float | None,
        typer.Option(
            show_default="0.1",
            rich_help_panel="Samples",
            help="Share of the steps, the last ones, without mosaic, pasted objects, scale jitter"
            " and change of colours; 0: never.",
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            show_default="auto",
            rich_help_panel="Machine",
            help="auto (the first GPU, else the CPU), cpu, cuda, cuda:1, ...",
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            show_default="auto",
            rich_help_panel="Machine",
            help="auto (bf16 where the device computes in it), fp32 or bf16.",
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            show_default="all cores",
            rich_help_panel="Machine",
            help="CPU threads that compute; the same number makes a run repeatable.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            show_default="1 on a CPU, up to 8 beside a GPU",
            rich_help_panel="Machine",
            help="Threads that cut crops.",
        ),
    ] = None,
    cache_mb: Annotated[
        float | None,
        typer.Option(
            show_default="2000",
            rich_help_panel="Machine",
            help="Decoded images kept in memory, in megabytes.",
        ),
    ] = None,
    cache_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            show_default="none",
            rich_help_panel="Machine",
            help="Keep decoded images in this folder too, for later epochs and runs: for fast"
            " disks beside slow processors. 18 MB for a photograph of 6 megapixels.",
        ),
    ] = None,
    cache_gb: Annotated[
        float | None,
        typer.Option(
            metavar="GB",
            show_default="20",
            rich_help_panel="Machine",
            help="Most that lies in --cache-dir, in gigabytes; when full it takes nothing more.",
        ),
    ] = None,
    max_megapixels: Annotated[
        float | None,
        typer.Option(
            show_default="400",
            rich_help_panel="Machine",
            help="Images above this many megapixels are refused.",
        ),
    ] = None,
) -> None:
    """Train a detector on your images, from random weights.

    The best weights by --metric, averaged over the steps, go into --out; what they find in the
    images held out goes beside it, OUT.json, to be tuned and fused. Ctrl-C keeps what was learnt.

    Example: smallobj train --arch centernet --data photos --out runs/centernet --time-limit 30m

    Example: smallobj train --arch yolo --size m --levels 3-6 --crop 1280 --store fp16 --data photos
    --out runs/yolo

    Example: smallobj train --init runs/centernet --freeze 2 --data new --out runs/centernet-new
    """
    from smallobj.boxes import InputError
    from smallobj.training import (
        Interrupted,
        TrainConfig,
        detector_settings,
        duration,
        parse_duration,
        stderr_reporter,
        with_preset,
    )
    from smallobj.training import resume as resume_run
    from smallobj.training import train as train_run

    run = {
        "data": data,
        "preset": preset,
        "arch": arch,
        "size": size,
        "backbone": backbone,
        "detector": detector_settings(settings or [], levels=levels, norm=norm) or None,
        "init": init,
        "pretrained": pretrained,
        "freeze": freeze,
        "store": store,
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
        "momentum": momentum,
        "warmup_steps": warmup_steps,
        "ema": ema,
        "clip": clip,
        "metric": metric,
        "stages": stages,
        "plain_end": plain_end,
        "validate_every": validate_every,
        "seed": seed,
        "device": device,
        "precision": precision,
        "threads": threads,
        "workers": workers,
        "cache_mb": cache_mb,
        "cache_dir": cache_dir,
        "cache_gb": cache_gb,
        "max_megapixels": max_megapixels,
    }
    crops = {
        "input": input,
        "crop": crop,
        "background": background,
        "crops_per_image": crops_per_image,
        "balance": balance,
        "scale_jitter": scale_jitter,
        "mosaic": mosaic,
        "paste": paste,
        "colour": colour,
        "symmetry": symmetry,
    }
    given: dict[str, object] = {n: value for n, value in run.items() if value is not None}
    given["crops"] = {name: value for name, value in crops.items() if value is not None}
    if resume and overwrite:
        raise InputError("--resume and --overwrite exclude each other")
    try:
        with stderr_reporter() as reporter:
            if resume:
                result = resume_run(out, given, reporter=reporter)
            else:
                config = TrainConfig.from_dict(with_preset(given))
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
