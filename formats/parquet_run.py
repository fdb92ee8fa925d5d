"""Runs as Parquet: columns image, label, x1, y1, x2, y2, score and maybe view, sorted by image.

A file that we wrote names all its images, their sizes, its classes and its model in its own
metadata. Foreign files are read too: in any order, with labels as numbers or names.
"""

from pathlib import Path

from smallobj.boxes import BoxTable, Source
from smallobj.formats.faults import Faults
from smallobj.formats.raw_run import RawRun, RunOutput, RunRequest

LOOKED_FOR = "Parquet (*.parquet) with columns image, label, x1, y1, x2, y2, score"
FOLDER = False
NORMALISED = False
NAMES_EMPTY = True

_MAGIC = b"PAR1"


def find(path: Path) -> bool:
    """Whether a file begins like Parquet."""
    try:
        with path.open("rb") as stream:
            return stream.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def read(path: Path, request: RunRequest, faults: Faults) -> RawRun:
    """All rows of a file; raises InputError with row, field and value where one is at fault."""
    import numpy as np  # noqa: PLC0415

    from smallobj.formats.parquet_columns import RowReader  # noqa: PLC0415 - loads pyarrow
    from smallobj.formats.parquet_file import open_parquet  # noqa: PLC0415
    from smallobj.formats.parquet_labels import ClassIds  # noqa: PLC0415
    from smallobj.formats.parquet_scan import in_fractions, scan  # noqa: PLC0415

    run = open_parquet(path)
    found = scan(run, request.classes)
    reader = RowReader(run, ClassIds(found.classes or request.classes), found.views)
    rows = reader.take(run.rows)
    return RawRun(
        ids=found.ids,
        image_index=found.image_index,
        xyxy=rows.xyxy,
        class_id=rows.class_id,
        score=rows.score,
        number=np.arange(run.rows),
        row_field="row {}",
        unit=request.unit or ("normalised" if in_fractions(run) else "pixel"),
        classes=found.classes,
        numbered=found.numbered,
        sizes=found.sizes,
        source=rows.view,
        sources=tuple(Source(path.stem, view) for view in found.views),
        info=None if run.about is None else run.about.info(),
    )


def write(table: BoxTable, place: Path, output: RunOutput) -> list[str]:
    """Every image in the order of the table; those without boxes in the metadata alone."""
    from smallobj.formats.parquet_writer import ParquetRunWriter  # noqa: PLC0415 - loads pyarrow

    with ParquetRunWriter(place, table.images, output.info.classes, table.sources) as writer:
        for part in table.chunks(2048):
            writer.write(part)
        writer.finish(output.info)
    return []
