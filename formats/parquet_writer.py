"""Writing a run as Parquet part by part, so that it may be larger than memory."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from smallobj.boxes import BoxTable, Classes, Images, Source
from smallobj.formats.parquet_file import COORDINATES, KEY, VIEW, About
from smallobj.formats.run_info import RunInfo

_NUMBERS = (*COORDINATES, "score")
# Coordinates stay float64: a float32 of 2,800 px is off by up to 1e-4 px. Split into streams of
# bytes, what came out of a float32 network loses its zero bytes: 21 bytes a box instead of 42.
_SETTINGS: dict[str, Any] = {
    "compression": "lz4",
    "use_dictionary": ["image", "label", VIEW],
    "column_encoding": dict.fromkeys(_NUMBERS, "BYTE_STREAM_SPLIT"),
    "write_page_checksum": True,
    "store_schema": False,  # the list of images would stand in the file twice
}


class ParquetRunWriter:
    """Writes tables of consecutive images into one file; a context manager.

    images: all images, in the order of the parts. sources: those of the parts, empty where they
    have no `source`.
    """

    def __init__(
        self, path: Path, images: Images, classes: Classes, sources: Sequence[Source] = ()
    ) -> None:
        self._images, self._classes = images, classes
        self._views = [source.view for source in sources]
        self._ids = np.array(classes.source_ids, np.int64)
        # an id beyond int32 is a foreign one, of which COCO allows any size
        small = not len(self._ids) or np.abs(self._ids).max() < 2**31
        self._label = pa.int32() if small else pa.int64()
        self._schema = self._schema_of()
        settings = {**_SETTINGS, "use_dictionary": [*_SETTINGS["use_dictionary"]]}
        if not self._views:
            settings["use_dictionary"].remove(VIEW)
        self._writer = pq.ParquetWriter(path, self._schema, **settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()

    def write(self, part: BoxTable) -> None:
        """Write the boxes of the next images as one group of rows."""
        if not len(part):
            return
        assert part.score is not None
        columns = [
            _named(np.repeat(np.arange(len(part.images)), np.diff(part.offsets)), part.images.ids),
            pa.array(self._ids[part.label], self._label),
            *(pa.array(np.ascontiguousarray(part.xyxy[:, axis])) for axis in range(4)),
            pa.array(part.score),
        ]
        if self._views:
            assert part.source is not None
            columns.append(_named(part.source, self._views))
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema), len(part))

    def finish(self, info: RunInfo) -> None:
        """Say what the file holds; the last call before the block ends."""
        about = msgspec.json.encode(About.of(self._images, info))
        self._writer.add_key_value_metadata({KEY: about})

    def _schema_of(self) -> pa.Schema:
        names = pa.dictionary(pa.int32(), pa.string())
        fields = [("image", names), ("label", self._label)]
        fields += [(name, pa.float64()) for name in _NUMBERS]
        return pa.schema(fields + ([(VIEW, names)] if self._views else []))


def _named(codes: NDArray, names: Sequence[str]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(
        pa.array(codes.astype(np.int32, copy=False)), pa.array(names, pa.string())
    )
