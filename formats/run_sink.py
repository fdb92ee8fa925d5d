"""Where the parts of a run go as they are made: into a file that grows, or together at the end."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from smallobj.boxes import BoxTable, Classes, Images, concatenate, whole_file
from smallobj.formats.labels import Labels
from smallobj.formats.run_info import RunInfo, run_info_path, write_run_info
from smallobj.formats.runs import require_unit, write_run


class RunSink(Protocol):
    """Takes the tables of consecutive images."""

    def write(self, part: BoxTable) -> None:
        """Take the next images."""

    def finish(self, info: RunInfo) -> list[str]:
        """Take what is known of the run at its end; the last call. Returns what to tell."""


@contextmanager
def run_sink(
    path: Path, images: Images, classes: Classes, *, kind: str, labels: Labels | None = None
) -> Iterator[RunSink]:
    """Yield a sink whose run stands at `path` when the block ends, as `write_run` leaves it.

    images: all images, in the order of the parts. labels: COCO labels, for COCO results. Raises
    InputError as `write_run` does.
    """
    if kind != "parquet":
        yield _Together(path, kind, labels)
        return
    from smallobj.formats.parquet_writer import ParquetRunWriter  # noqa: PLC0415 - loads pyarrow

    require_unit(BoxTable.empty(images, classes, scored=True), path, kind)
    with whole_file(path) as temporary, ParquetRunWriter(temporary, images, classes) as writer:
        yield _Growing(path, writer)


class _Together:
    """Formats that are written at once: the parts wait in memory."""

    def __init__(self, path: Path, kind: str, labels: Labels | None) -> None:
        self._path, self._kind, self._labels = path, kind, labels
        self._parts: list[BoxTable] = []

    def write(self, part: BoxTable) -> None:
        self._parts.append(part)

    def finish(self, info: RunInfo) -> list[str]:
        table = self._parts[0] if len(self._parts) == 1 else concatenate(self._parts)
        self._parts.clear()
        return write_run(self._path, table, info, kind=self._kind, labels=self._labels)


class _Growing:
    """Parquet: every part goes to the file."""

    def __init__(self, path: Path, writer: "object") -> None:
        from smallobj.formats.parquet_writer import ParquetRunWriter  # noqa: PLC0415

        assert isinstance(writer, ParquetRunWriter)
        self._path, self._writer = path, writer

    def write(self, part: BoxTable) -> None:
        self._writer.write(part)

    def finish(self, info: RunInfo) -> list[str]:
        self._writer.finish(info)
        write_run_info(run_info_path(self._path), info)
        return []
