from pathlib import Path
from typing import Annotated

import typer

from smallobj.cli.train_data_options import (
    BackgroundOption,
    BalanceOption,
    ColourOption,
    CropOption,
    CropsPerImageOption,
    DataOption,
    FoldOption,
    FoldsOption,
    ImagesOption,
    InputOption,
    KindOption,
    MaxBadOption,
    MosaicOption,
    NamesOption,
    PasteOption,
    PlainEndOption,
    ScaleJitterOption,
    SplitOption,
    StagesOption,
    SubsetOption,
    SymmetryOption,
    ValOption,
    ValSplitOption,
    VocOriginOption,
)
from smallobj.cli.train_detector_options import (
    ArchOption,
    BackboneOption,
    FreezeOption,
    InitOption,
    LevelsOption,
    NormOption,
    PresetOption,
    PretrainedOption,
    SettingsOption,
    SizeOption,
)
from smallobj.cli.train_learning_options import (
    BatchOption,
    CacheDirOption,
    CacheGbOption,
    CacheMbOption,
    ClipOption,
    DeviceOption,
    EmaOption,
    EpochsOption,
    KeepLastOption,
    LrOption,
    MaxMegapixelsOption,
    MetricOption,
    MomentumOption,
    OptimizerOption,
    PatienceOption,
    PrecisionOption,
    RecordOption,
    SeedOption,
    StepsOption,
    StoreOption,
    ThreadsOption,
    TimeLimitOption,
    ValidateEveryOption,
    WarmupStepsOption,
    WeightDecayOption,
    WorkersOption,
)

_NONE = "none"


def train(
    *,
    out: Annotated[Path, typer.Option(help="Folder of the trained model, runs/NAME.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the training in --out, as it was set.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin anew where --out holds a model.")
    ] = False,
    data: DataOption = None,
    images: ImagesOption = None,
    kind: KindOption = None,
    names: NamesOption = None,
    voc_origin: VocOriginOption = None,
    split: SplitOption = None,
    val: ValOption = None,
    val_split: ValSplitOption = None,
    folds: FoldsOption = None,
    fold: FoldOption = None,
    subset: SubsetOption = None,
    max_bad: MaxBadOption = None,
    preset: PresetOption = None,
    arch: ArchOption = None,
    size: SizeOption = None,
    backbone: BackboneOption = None,
    levels: LevelsOption = None,
    norm: NormOption = None,
    settings: SettingsOption = None,
    init: InitOption = None,
    pretrained: PretrainedOption = None,
    freeze: FreezeOption = None,
    steps: StepsOption = None,
    epochs: EpochsOption = None,
    time_limit: TimeLimitOption = None,
    validate_every: ValidateEveryOption = None,
    metric: MetricOption = None,
    patience: PatienceOption = None,
    keep_last: KeepLastOption = None,
    batch: BatchOption = None,
    optimizer: OptimizerOption = None,
    lr: LrOption = None,
    weight_decay: WeightDecayOption = None,
    momentum: MomentumOption = None,
    warmup_steps: WarmupStepsOption = None,
    ema: EmaOption = None,
    clip: ClipOption = None,
    store: StoreOption = None,
    seed: SeedOption = None,
    input: InputOption = None,
    crop: CropOption = None,
    crops_per_image: CropsPerImageOption = None,
    background: BackgroundOption = None,
    balance: BalanceOption = None,
    scale_jitter: ScaleJitterOption = None,
    mosaic: MosaicOption = None,
    paste: PasteOption = None,
    colour: ColourOption = None,
    symmetry: SymmetryOption = None,
    stages: StagesOption = None,
    plain_end: PlainEndOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    threads: ThreadsOption = None,
    record: RecordOption = None,
    workers: WorkersOption = None,
    cache_mb: CacheMbOption = None,
    cache_dir: CacheDirOption = None,
    cache_gb: CacheGbOption = None,
    max_megapixels: MaxMegapixelsOption = None,
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
        "fold": _fold(fold),
        "hold_out": False if fold == _NONE else None,
        "subset": subset,
        "max_bad": max_bad,
        "patience": patience,
        "keep_last": keep_last,
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
        "record": record,
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
    if result.run is None:
        scores = "last weights"
    typer.echo(
        f"{result.folder}: {scores} at step {result.best_step} of {result.steps}, "
        f"{duration(result.seconds)}"
    )
    if result.run is None:
        typer.echo("nothing was held out: there are no scores, and no run is written")
    else:
        typer.echo(f"{result.run}: what it finds in the images held out")
    if result.early is not None:
        typer.echo(f"ended early: {result.early}")
    if result.stopped is not None:
        typer.echo(f"ended early: {result.stopped}; the last good weights are kept", err=True)
        raise typer.Exit(1)


def _fold(text: str | None) -> int | None:
    from smallobj.boxes import InputError

    if text is None or text == _NONE:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 5):
        raise InputError("must be a number from 0, or none", field="fold", value=text)
    return int(text)
