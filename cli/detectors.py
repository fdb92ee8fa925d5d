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

    A multiplication and its addition count as two operations. The licence is that of the code a
    detector runs on, besides torch's and timm's; some detectors need an extra package.

    Example: smallobj detectors --json detectors.json
    """
    import msgspec
    from rich.console import Console
    from rich.table import Table

    from smallobj.boxes import check_writable, write_bytes
    from smallobj.detectors import list_detectors
    from smallobj.detectors.cost import list_costs

    if json is not None:
        check_writable(json)
    table = Table("detector", "size", "backbone")
    table.add_column("parameters", justify="right")
    table.add_column(f"GFLOPs at {image_px} px", justify="right")
    console = Console()
    listed = []
    for name in list_detectors():
        entry = list_costs(name, image_px=image_px)
        sizes = [cost._asdict() for cost in entry.sizes]
        listed.append({**entry._asdict(), "sizes": sizes})
        terms = [entry.summary or entry.error, entry.licence and f"Licence: {entry.licence}."]
        if entry.needs:
            terms.append(f"Needs: pip install '{entry.needs}'.")
        if entry.error and entry.summary:
            terms.append(f"Not here: {entry.error}")
        line = f"{name}: {' '.join(filter(None, terms))}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
        for row, (size, backbone, parameters, gflops) in enumerate(entry.sizes):
            table.add_row(
                "" if row else name, size, backbone, f"{parameters / 1e6:.2f} M", f"{gflops:.1f}"
            )
        table.add_section()
    console.print(table)
    if json is not None:
        write_bytes(json, msgspec.json.format(msgspec.json.encode(listed)))
