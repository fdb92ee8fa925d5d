from pathlib import Path
from typing import Annotated

import typer

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
