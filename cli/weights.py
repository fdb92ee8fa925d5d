from pathlib import Path
from typing import Annotated

import typer

from smallobj.cli.label_options import ImagesOption, KindOption, NamesOption
from smallobj.cli.look_options import DeviceOption

weights_app = typer.Typer(no_args_is_help=True, help="Trained weights in other forms.")


@weights_app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a trained model, runs/NAME.")],
    *,
    to: Annotated[str, typer.Option(help="Form of the file: onnx.")] = "onnx",
    precision: Annotated[
        str, typer.Option(help="Of the stored weights: fp32, or fp16 for half the size.")
    ] = "fp32",
    out: Annotated[
        Path | None,
        typer.Option(help="File that is written.", show_default="RUN/model.onnx, model.fp16.onnx"),
    ] = None,
) -> None:
    """Export a trained model to a file that other runtimes read, and that predict takes too.

    The file takes images of uint8 in any batch and in any size in steps of the model's stride, and
    gives the model's raw outputs; it carries classes, settings and normalisation. ONNX Runtime must
    agree with torch before it is written. Needs: pip install "smallobj[onnx]"

    Example: smallobj weights export runs/centernet --to onnx --precision fp16
    """
    from smallobj.boxes import InputError
    from smallobj.detectors import load_detector
    from smallobj.prediction import printable
    from smallobj.prediction.export import export_onnx
    from smallobj.weights import run_folder

    if to != "onnx":
        raise InputError("only onnx is known", field="to", value=to)
    detector, manifest = load_detector(run)
    if out is None:
        out = run_folder(run) / ("model.onnx" if precision == "fp32" else f"model.{precision}.onnx")
    done = export_onnx(detector, manifest, out, precision=precision)
    typer.echo(
        f"{printable(out)}: {done.file_bytes / 1e6:.2f} MB, {precision}, any batch,"
        f" sides in steps of {done.divisor} px, outputs {', '.join(done.outputs)};"
        f" at most {done.difference:.1g} off torch's"
    )


@weights_app.command()
def average(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...", help="Folders of trained models, or runs/NAME/checkpoints/*."
        ),
    ],
    *,
    out: Annotated[Path, typer.Option(help="Folder of the averaged model, runs/NAME.")],
    data: Annotated[
        Path | None,
        typer.Option(
            show_default="what the first run was trained on",
            help="Labels of training images: a folder or a file of labels.",
        ),
    ] = None,
    images: ImagesOption = None,
    kind: KindOption = None,
    names: NamesOption = None,
    voc_origin: Annotated[
        int | None,
        typer.Option(show_default="1", help="What Pascal VOC files call the first pixel: 1 or 0."),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            show_default="train, if there is one",
            help="Part of the data set to look at, or a .txt with an image a line.",
        ),
    ] = None,
    batches: Annotated[
        int, typer.Option(min=1, help="Batches of training crops that batch norms are renewed by.")
    ] = 50,
    device: DeviceOption = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the model that --out holds.")
    ] = False,
) -> None:
    """Average the weights of several models of one kind into one.

    Meant for late checkpoints of one training (smallobj train --keep-last 5), or for trainings
    that began from the same weights (--init): the mean of others is seldom any good. The
    statistics of batch norms are taken anew from training crops, which models without do not need.

    Example: smallobj weights average runs/centernet/checkpoints/* --out runs/centernet-mean
    """
    from smallobj.prediction import printable
    from smallobj.training import average_runs

    options = {
        "data": data,
        "images": images,
        "kind": None if kind is None else kind.value,
        "names": names,
        "voc_origin": voc_origin,
        "split": split,
    }
    done = average_runs(
        runs,
        out,
        {name: value for name, value in options.items() if value is not None},
        batches=batches,
        device=device,
        overwrite=overwrite,
        tell=lambda line: typer.echo(line, err=True),
    )
    renewed = "no batch norm to renew"
    if done.renewed:
        renewed = f"statistics of {done.renewed} batch norms taken from {done.crops} training crops"
    typer.echo(f"{printable(out)}: mean of {done.models} models, {renewed}")
