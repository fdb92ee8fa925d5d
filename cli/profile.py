from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from smallobj.prediction.profile import Profile, ProfileConfig


class _Inputs(NamedTuple):
    """What is predicted from file to boxes."""

    images: Sequence[str]
    limit: int  # images, at most
    tile: str  # side of the tiles


def profile(
    run: Annotated[
        Path | None,
        typer.Argument(
            metavar="RUN", help="Folder of a trained model, runs/NAME; or none, and --arch."
        ),
    ] = None,
    *,
    arch: Annotated[
        str | None, typer.Option(help="Profile an untrained detector of this name instead.")
    ] = None,
    detector_size: Annotated[
        str | None,
        typer.Option(
            help="With --arch: tiny, small, medium or large.", show_default="small, of yolo n"
        ),
    ] = None,
    classes: Annotated[int, typer.Option(min=1, help="With --arch: number of classes.")] = 1,
    budget_mb: Annotated[
        float,
        typer.Option(
            help="Megabytes (of 1,000,000 bytes) that the weight file may have; above: status 1."
        ),
    ] = 100.0,
    batch: Annotated[str, typer.Option(metavar="N,...", help="Images in a pass.")] = "1",
    size: Annotated[
        str,
        typer.Option(
            metavar="PX,...",
            help="Sides of the square images, rounded up to the model's stride.",
            show_default="the crops of its training, 640 with --arch",
        ),
    ] = "",
    repeats: Annotated[int, typer.Option(help="Passes that are timed.")] = 20,
    warm_up: Annotated[int, typer.Option(help="Passes before that are not.")] = 3,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
    threads: Annotated[
        int | None, typer.Option(help="Threads of the CPU.", show_default="as torch chooses")
    ] = None,
    images: Annotated[
        list[str] | None,
        typer.Option(
            metavar="INPUT",
            help="Also predict these images from file to boxes and time it: a folder, an image, a"
            " pattern, a list, a zip archive. Can be given several times.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many of them.")] = 50,
    tile: Annotated[
        str, typer.Option(metavar="auto|N|0", help="With --images: side of the tiles; 0: none.")
    ] = "auto",
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write every number to FILE, as JSON.")
    ] = None,
) -> None:
    """Tell what a model costs: parameters, megabytes, FLOPs, memory traffic, latency.

    Ends with status 1 where the weight file is larger than --budget-mb. docs/profile.md says what
    exactly is counted.

    Example: smallobj profile runs/centernet --batch 1,4 --size 320,640 --json cost.json

    Example: smallobj profile runs/centernet --images photos/val --budget-mb 50

    Example: smallobj profile --arch fcos --detector-size medium --classes 6
    """
    import msgspec
    from rich.console import Console

    from smallobj.boxes import InputError, check_writable, write_bytes
    from smallobj.detectors import detector_class
    from smallobj.prediction.device import PRECISIONS
    from smallobj.prediction.profile import ProfileConfig

    if (run is None) == (arch is None):
        raise InputError("name either the folder of a trained model, or --arch", field="run")
    if arch is not None and images:
        raise InputError("needs a trained model", field="images")
    if precision not in PRECISIONS:
        known = ", ".join(PRECISIONS)
        raise InputError(f"must be one of {known}", field="precision", value=precision)
    if not budget_mb > 0:
        raise InputError("must be above 0", field="budget_mb", value=budget_mb)
    if json is not None:
        check_writable(json)
    config = ProfileConfig(
        batches=_numbers("batch", batch),
        sizes=_numbers("size", size) if size else (640,),
        warm_up=warm_up,
        repeats=repeats,
        precision=precision,
        threads=threads,
    )
    if run is not None:
        name = str(run)
        measured, stored, dtype = _trained(
            run, config, device, _Inputs(images or [], limit, tile), own_size=not size
        )
    else:
        assert arch is not None
        detector_size = detector_size or detector_class(arch).Config.usual_size()
        name = f"{arch}, {detector_size}, untrained"
        measured = _untrained(arch, detector_size, classes, device, config)
        stored, dtype = measured.weight_bytes["fp32"], "float32"
    over = stored > budget_mb * 1e6
    content = {
        "model": name,
        **measured.as_dict(),
        "stored_bytes": stored,
        "stored_dtype": dtype,
        "budget_mb": budget_mb,
        "over_budget": over,
    }
    if json is not None:
        write_bytes(json, msgspec.json.format(msgspec.json.encode(content)) + b"\n")
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # a file has no edge to break lines at
    lines = _lines(name, measured, stored, dtype, budget_mb)
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(_table(measured))
    if over:
        typer.echo(
            f"error: {stored / 1e6:.2f} MB are over the budget of {budget_mb:g} MB", err=True
        )
        raise typer.Exit(1)


def _numbers(field: str, text: str) -> tuple[int, ...]:
    from smallobj.boxes import InputError

    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and 0 < len(part) < 7 for part in parts):
        reason = "whole numbers with commas between them are wanted"
        raise InputError(reason, field=field, value=text)
    return tuple(dict.fromkeys(int(part) for part in parts))


def _trained(
    run: Path,
    config: "ProfileConfig",
    device: str,
    inputs: _Inputs,
    *,
    own_size: bool,
) -> "tuple[Profile, int, str]":
    """The profile of a trained model, and the bytes and type of its weights as they are stored."""
    from dataclasses import replace

    from smallobj.detectors import load_detector
    from smallobj.prediction import PredictConfig, choose_device, find_images, views_of
    from smallobj.prediction.profile import measure_end_to_end, profile_detector

    images, limit, tile = inputs
    sources = list(find_images(*images).paths[:limit]) if images else []
    detector, manifest = load_detector(run, choose_device(device))
    views = views_of(manifest, detector.stride, tile=tile)
    if own_size:
        config = replace(config, sizes=(manifest.train_crop_px,))
    with _progress("measuring") as advance:
        measured = profile_detector(detector, config, on_progress=advance)
    if sources:
        settings = PredictConfig(views=views, precision=config.precision)
        with _progress("predicting") as advance:
            seen = measure_end_to_end(
                detector, sources, settings, threads=config.threads, on_progress=advance
            )
        measured = replace(measured, end_to_end=seen)
    return measured, manifest.weight_bytes, manifest.dtype


def _untrained(
    arch: str, size: str, classes: int, device: str, config: "ProfileConfig"
) -> "Profile":
    from smallobj.detectors import build_detector
    from smallobj.prediction import choose_device
    from smallobj.prediction.profile import profile_detector

    grey = (127.0, 127.0, 127.0)
    detector = build_detector(arch, num_classes=classes, mean=grey, std=grey, size=size)
    with _progress("measuring") as advance:
        return profile_detector(detector.to(choose_device(device)), config, on_progress=advance)


def _progress(what: str) -> Any:
    """A bar on stderr; yields what is called with (done, total)."""
    from contextlib import contextmanager

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress

    @contextmanager
    def shown() -> Any:
        columns = (BarColumn(), MofNCompleteColumn())
        console = Console(stderr=True)
        with Progress(what, *columns, console=console, transient=True) as progress:
            task = progress.add_task("", total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)

    return shown()


def _lines(name: str, measured: "Profile", stored: int, dtype: str, budget_mb: float) -> list[str]:
    sizes = ", ".join(f"{kind} {size / 1e6:.2f}" for kind, size in measured.weight_bytes.items())
    fitting = [kind for kind, size in measured.weight_bytes.items() if size <= budget_mb * 1e6]
    over = stored > budget_mb * 1e6
    hint = f"; would fit as {' or '.join(fitting)}" if over and fitting else ""
    lines = [
        name,
        f"parameters: {measured.parameters:,}",
        f"weight file: {stored / 1e6:.2f} MB as stored ({dtype}), "
        f"{'over' if over else 'within'} the budget of {budget_mb:g} MB{hint}",
        f"by stored precision, MB: {sizes}",
        f"on {measured.device}, {measured.precision}, {measured.threads} CPU threads",
    ]
    seen = measured.end_to_end
    if seen is not None:
        unread = f", {seen.unread} could not be read" if seen.unread else ""
        lines.append(
            f"file to boxes: {seen.images_a_second:.2f} images a second"
            f" ({seen.megapixels / seen.seconds:.1f} megapixels; {seen.images} images,"
            f" {seen.seconds:.1f} s{unread})"
        )
    return lines


def _table(measured: "Profile") -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), caption_justify="left")
    columns = ("batch", "px", "GFLOPs", "GMACs", "read MB", "of weights", "written MB", "peak MB")
    gpu = any(point.device_peak is not None for point in measured.points)
    times = ("forward p50 ms", "p50 ms", "p95 ms", "images a second")
    for column in (*columns, *(["GPU peak MB"] if gpu else []), *times):
        table.add_column(column, justify="right")
    for point in measured.points:
        traffic, latency = point.traffic, point.latency
        read = traffic.weights_read + traffic.activations_read
        amounts = (read, traffic.weights_read, traffic.activations_written)
        table.add_row(
            *(str(point.batch), str(point.size)),
            *(f"{traffic.flops / 1e9:.3f}", f"{traffic.macs / 1e9:.3f}"),
            *(f"{amount / 1e6:.1f}" for amount in (*amounts, traffic.peak_activations)),
            *([f"{(point.device_peak or 0) / 1e6:.1f}"] if gpu else []),
            f"{latency.forward_p50_ms:.2f}",
            *(f"{latency.p50_ms:.2f}", f"{latency.p95_ms:.2f}"),
            f"{latency.images_a_second:.1f}",
        )
    repeats = measured.points[0].latency.repeats
    table.caption = f"of a whole batch; p50 and p95 of {repeats} passes with decoding, without NMS"
    return table
