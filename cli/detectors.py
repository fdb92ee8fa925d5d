from pathlib import Path
from typing import Annotated

import typer


def detectors(
    *,
    image_px: Annotated[
        int, typer.Option(min=32, help="Side of the image GFLOPs are counted for, pixels.")
    ] = 640,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the table here as JSON too.")
    ] = None,
) -> None:
    """List the detectors that can be trained, with what each size costs.

    A multiplication and its addition count as two operations.

    Example: smallobj detectors --json detectors.json
    """
    import msgspec
    from rich.console import Console
    from rich.table import Table

    from smallobj.boxes import check_writable, write_bytes
    from smallobj.detectors import list_detectors
    from smallobj.detectors.cost import detector_costs, detector_summary

    if json is not None:
        check_writable(json)
    table = Table("detector", "size", "backbone")
    table.add_column("parameters", justify="right")
    table.add_column(f"GFLOPs at {image_px} px", justify="right")
    console = Console()
    listed = []
    for name in list_detectors():
        summary, costs = detector_summary(name), detector_costs(name, image_px=image_px)
        listed.append({"name": name, "summary": summary, "sizes": [c._asdict() for c in costs]})
        console.print(f"{name}: {summary}", markup=False, highlight=False, soft_wrap=True)
        for row, (size, backbone, parameters, gflops) in enumerate(costs):
            table.add_row(
                "" if row else name, size, backbone, f"{parameters / 1e6:.2f} M", f"{gflops:.1f}"
            )
        table.add_section()
    console.print(table)
    if json is not None:
        write_bytes(json, msgspec.json.format(msgspec.json.encode(listed)))
