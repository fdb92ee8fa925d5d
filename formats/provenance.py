"""Provenance: which boxes of which runs each fused box was made of, as CSV, JSON lines or Parquet.

One line for each of those boxes. `box` is the number of the fused box in its image, from 0, in the
order of the fused run; what describes the box it came from begins with `source_`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Array, BoxTable, InputError, Source

ENDINGS = (".csv", ".jsonl", ".parquet")


@dataclass(frozen=True, kw_only=True)
class Origins:
    """The boxes that a fused table was made of: P boxes, by rising row of the fused table."""

    fused_row: NDArray[np.int64]  # [P] row of the fused table
    source: NDArray[np.int32]  # [P] index into sources
    sources: Sequence[Source]  # run and view
    weight: Array  # [P] of the run
    score: Array  # [P] as the run has it
    calibrated: Array | None  # [P] as fusion took it, where scores were calibrated
    xyxy: Array  # [P, 4] as the run has it

    def of_fused(self, keep: NDArray[np.bool_]) -> "Origins":
        """The origins of the fused boxes that are kept; keep [K]."""
        own = keep[self.fused_row]
        number = np.cumsum(keep) - 1
        return Origins(
            fused_row=number[self.fused_row[own]],
            source=self.source[own],
            sources=self.sources,
            weight=self.weight[own],
            score=self.score[own],
            calibrated=None if self.calibrated is None else self.calibrated[own],
            xyxy=self.xyxy[own],
        )


def check_provenance_path(path: Path) -> None:
    """Raise InputError where the ending names no known form."""
    if path.suffix.lower() not in ENDINGS:
        reason = f"provenance has to end in {', '.join(ENDINGS)}"
        raise InputError(reason, file=path)


@contextmanager
def provenance_writer(path: Path, form: str) -> Iterator[Callable[[BoxTable, Origins], None]]:
    """Yield a function that writes the origins of the next fused table; the file ends the block.

    form: one of ENDINGS. path: a temporary file, whose own ending does not count. Every call has
    to have `calibrated`, or none.
    """
    with ExitStack() as stack:
        write: Callable[[Any], object] | None = None  # known when the columns are

        def add(table: BoxTable, origins: Origins) -> None:
            nonlocal write
            part = _columns(table, origins)
            if write is None:
                write = _open(stack, path, form, part)
            write(part)

        yield add


def _columns(table: BoxTable, origins: Origins) -> Any:
    """The lines as an Arrow table."""
    import pyarrow as pa  # noqa: PLC0415 - a tenth of a second

    assert table.score is not None
    row, image = origins.fused_row, table.image_index[origins.fused_row]
    runs, views = zip(*origins.sources, strict=True)
    columns = {
        "image": _named(image, table.images.ids),
        "box": (row - table.offsets[image]).astype(np.int32),
        "class": _named(table.label[row], table.classes.names),
        **_corners("", table.xyxy[row]),
        "score": table.score[row],
        "run": _named(origins.source, runs),
        "view": _named(origins.source, views),
        "weight": origins.weight,
        "source_score": origins.score,
    }
    if origins.calibrated is not None:
        columns["source_calibrated"] = origins.calibrated
    return pa.table(columns | _corners("source_", origins.xyxy))


def _open(stack: ExitStack, path: Path, form: str, part: Any) -> Callable[[Any], object]:
    if form == ".parquet":
        import pyarrow.parquet as pq  # noqa: PLC0415

        names = ["image", "class", "run", "view"]
        writer = pq.ParquetWriter(path, part.schema, compression="lz4", use_dictionary=names)
        return stack.enter_context(writer).write_table
    if form == ".csv":
        from pyarrow import csv  # noqa: PLC0415

        quoting = csv.WriteOptions(quoting_style="needed")
        return stack.enter_context(
            csv.CSVWriter(path, part.schema, write_options=quoting)
        ).write_table
    stream = stack.enter_context(path.open("wb"))
    encode = msgspec.json.Encoder().encode_lines
    return lambda lines: stream.write(encode(lines.to_pylist()))


def _corners(prefix: str, xyxy: Array) -> dict[str, Array]:
    names = ("x1", "y1", "x2", "y2")
    return {prefix + name: np.ascontiguousarray(xyxy[:, i]) for i, name in enumerate(names)}


def _named(codes: NDArray, names: Sequence[str]) -> Any:
    import pyarrow as pa  # noqa: PLC0415

    codes = pa.array(codes.astype(np.int32, copy=False))
    return pa.DictionaryArray.from_arrays(codes, pa.array(names, pa.string()))
