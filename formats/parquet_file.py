"""A Parquet file of a run: opening it, what it says of itself, and what is told of a broken one."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from smallobj.boxes import Classes, Images, InputError
from smallobj.formats.image_ids import id_fault, normal_id
from smallobj.formats.run_info import RunInfo

COORDINATES = ("x1", "y1", "x2", "y2")  # pixels
COLUMNS = ("image", "label", *COORDINATES, "score")
VIEW = "view"  # optional
KEY = b"smallobj"  # of the file's own metadata

_OPTIONAL = (  # of RunInfo
    *("fold", "image_set", "cap", "seconds", "weight_mb", "latency_ms"),
    *("candidates", "nms_iou", "merge"),
)
_BUFFER_BYTES = 1 << 20  # read at a time: a row group may be larger than memory


class About(msgspec.Struct, omit_defaults=True):
    """What a file that we wrote says of itself, as JSON under KEY."""

    images: list[str]  # all of them, so that those without boxes are not lost
    class_names: list[str]
    class_ids: list[int]  # what stands in the column `label`
    model: str
    version: int = 1
    width: list[int] | None = None  # pixels, 0 where unknown; None: all unknown
    height: list[int] | None = None
    views: list[str] = []
    fold: str | None = None
    image_set: str | None = None
    cap: int | None = None
    seconds: float | None = None
    weight_mb: float | None = None
    latency_ms: float | None = None
    candidates: bool = False
    nms_iou: float | None = None
    merge: str | None = None

    @classmethod
    def of(cls, images: Images, info: RunInfo) -> "About":
        """What is to be written of a run."""
        sized = bool(images.width.any() or images.height.any())
        return cls(
            images=list(images.ids),
            class_names=list(info.classes.names),
            class_ids=list(info.classes.source_ids),
            model=info.model,
            width=images.width.tolist() if sized else None,
            height=images.height.tolist() if sized else None,
            views=list(info.views),
            **{name: getattr(info, name) for name in _OPTIONAL},
        )

    def info(self) -> RunInfo:
        """The same as it would stand in the TOML file beside; ValueError where classes clash."""
        return RunInfo(
            model=self.model,
            classes=Classes.of(self.class_names, self.class_ids),
            views=tuple(self.views),
            **{name: getattr(self, name) for name in _OPTIONAL},
        )

    def sizes(self) -> NDArray[np.int32]:
        """Width and height [N, 2], 0 where unknown; ValueError where they cannot be."""
        count = len(self.images)
        columns = [self.width or [0] * count, self.height or [0] * count]
        sizes = np.array(columns, np.int64).reshape(2, count).T
        if (sizes < 0).any() or (sizes > np.iinfo(np.int32).max).any():
            raise ValueError("an image size is out of range")
        return sizes.astype(np.int32)


@dataclass(frozen=True, kw_only=True)
class OpenParquet:
    """A Parquet file with the columns of a run; its values are not judged yet."""

    path: Path
    file: pq.ParquetFile
    about: About | None  # None for a foreign file

    @property
    def has_views(self) -> bool:
        """Whether rows say which view of the image they were seen in."""
        return VIEW in self.file.schema_arrow.names

    @property
    def rows(self) -> int:
        """Number of boxes."""
        return int(self.file.metadata.num_rows)

    def batches(self, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """The columns in parts of at most `rows` rows; raises InputError where one is broken."""
        with told_as_input(self.path):
            yield from self.file.iter_batches(batch_size=rows, columns=columns)


def open_parquet(path: Path) -> OpenParquet:
    """Open a run; raises InputError where it is no Parquet file or lacks a column."""
    with told_as_input(path):
        footer = pq.read_metadata(path)
        names = [name for name in ("image", VIEW) if name in footer.schema.names]
        file = pq.ParquetFile(
            path,
            metadata=footer,
            read_dictionary=names,
            pre_buffer=False,  # it would keep all that was read
            buffer_size=_BUFFER_BYTES,
            page_checksum_verification=True,
        )
        schema = file.schema_arrow
        metadata = footer.metadata or {}
    _check_schema(path, schema)
    return OpenParquet(path=path, file=file, about=_read_about(path, metadata.get(KEY)))


@contextmanager
def told_as_input(path: Path) -> Iterator[None]:
    """Tell what pyarrow raises on a broken or missing file as an InputError."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", file=path) from error
    except (pa.ArrowException, OSError, UnicodeDecodeError, MemoryError, OverflowError) as error:
        reason = printable(" ".join(str(error).split())[:200]) or type(error).__name__
        raise InputError(f"is not a whole Parquet file: {reason}", file=path) from error


def printable(text: str) -> str:
    """The text on one line, as far as it is text."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def _check_schema(path: Path, schema: pa.Schema) -> None:
    for name in COLUMNS:
        found = schema.names.count(name)
        if found != 1:
            has = printable(", ".join(schema.names[:20]))
            reason = (
                f"column is missing; the file has {has}" if not found else "column stands twice"
            )
            raise InputError(reason, file=path, field=name)
        if not _FITS[name](_value_type(schema.field(name).type)):
            reason = f"column has to hold {_WANTED[name]}"
            raise InputError(reason, file=path, field=name, value=str(schema.field(name).type))
    if VIEW in schema.names and not _is_text(_value_type(schema.field(VIEW).type)):
        reason = "column has to hold text"
        raise InputError(reason, file=path, field=VIEW, value=str(schema.field(VIEW).type))


def _read_about(path: Path, content: bytes | None) -> About | None:
    if content is None:
        return None
    try:
        about = msgspec.json.decode(content, type=About)
        about.info()
        about.sizes()
        if (about.width is None) != (about.height is None):
            raise ValueError("width or height is missing")
    except (msgspec.DecodeError, ValueError, OverflowError, UnicodeDecodeError) as error:
        field = f"metadata {KEY.decode()}"
        raise InputError(
            f"cannot be used: {printable(str(error))}", file=path, field=field
        ) from error
    seen: set[str] = set()
    for image_id in about.images:
        fault = id_fault(image_id) or ("image stands twice" if image_id in seen else None)
        if fault is not None or normal_id(image_id) != image_id:
            reason = fault or "image name is not in its normal form"
            raise InputError(reason, file=path, field="metadata images", value=image_id)
        seen.add(image_id)
    return about


def _value_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _is_name(kind: pa.DataType) -> bool:
    return _is_text(kind) or pa.types.is_integer(kind)


_FITS: dict[str, Any] = {
    "image": _is_name,
    "label": lambda kind: _is_text(kind) or _is_number(kind),
    **dict.fromkeys((*COORDINATES, "score"), _is_number),
}
_WANTED = {
    "image": "text or whole numbers",
    "label": "numbers or text",
    **dict.fromkeys((*COORDINATES, "score"), "numbers"),
}
