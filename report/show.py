"""A run as pictures: every image with its boxes, every object enlarged, sheets, and an index."""

import csv
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from smallobj.boxes import InputError
from smallobj.boxes.compiled import cpu_count
from smallobj.report.captions import load_font
from smallobj.report.crops import enlarged_crop
from smallobj.report.drawing import Marks, Pen, box_text, draw_marks, marks_of, with_legend
from smallobj.report.judged import IGNORED, KINDS, WRONG, Judged
from smallobj.report.picture_files import (
    CROPS,
    IMAGES,
    INDEX,
    SHEETS,
    picture_folder,
    picture_name,
    safe_names,
)
from smallobj.report.sheets import Tile, contact_sheets

if TYPE_CHECKING:
    from smallobj.datasets import ImageSource

PICTURE_KINDS = ("jpg", "png")
INDEX_COLUMNS = (
    *("image", "kind", "class", "score", "iou", "other class", "x1", "y1", "x2", "y2"),
    *("picture", "crop"),
)
_SAVE: dict[str, dict[str, Any]] = {
    "jpg": {"format": "JPEG", "quality": 92, "subsampling": 0},  # colour at full resolution
    "png": {"format": "PNG", "compress_level": 3},
}
_JPEG_MOST_PX = 65_500  # a side; what libjpeg can write
_MOST_THREADS = 8
_AHEAD_PIXELS = 200e6  # of images at work at once; one image of more is always let through


@dataclass(frozen=True, kw_only=True)
class ShowConfig:
    """How a run is shown. Raises InputError naming the field."""

    picture: str = "jpg"  # one of PICTURE_KINDS
    crops: bool = True  # each object enlarged too, and on contact sheets
    note: str = ""  # in the legend below every picture
    font: Path | None = None  # a font file; DejaVu Sans where None
    overwrite: bool = False  # pictures made before in the same folder are replaced
    max_megapixels: float = 400.0  # larger images are refused by their header
    threads: int = 0  # 0: one a core

    def __post_init__(self) -> None:
        if self.picture not in PICTURE_KINDS:
            known = ", ".join(PICTURE_KINDS)
            raise InputError(f"must be one of {known}", field="picture", value=self.picture)
        if not self.max_megapixels > 0:
            raise InputError("must be above 0", field="max_megapixels", value=self.max_megapixels)
        load_font(12, self.font)


class Unread(NamedTuple):
    """An image that could not be drawn."""

    id: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What was written."""

    pictures: int
    crops: int
    sheets: int
    unread: tuple[Unread, ...]  # in the index all the same, without picture and crops


class _Drawn(NamedTuple):
    crops: list[str]  # of every box, relative to the folder
    fault: str | None = None  # why there are none


def show_run(
    shown: Judged,
    sources: "Sequence[ImageSource]",
    out: Path,
    config: ShowConfig,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> Shown:
    """Draw the images of `shown`, read from `sources`, into the folder `out`, whole or not at all.

    Images are drawn in their order, several at once in threads, a few in memory. One that cannot be
    read is told in the summary; the others are drawn. Raises InputError where `out` cannot be
    written or is not empty.
    """
    names = safe_names(shown.images.ids)
    with picture_folder(out, overwrite=config.overwrite) as folder:
        work = _Work(shown, names, folder, config)
        crops: list[list[str]] = []
        unread = []
        for image, drawn in enumerate(_in_threads(work, sources)):
            crops.append(drawn.crops)
            if drawn.fault is not None:
                unread.append(Unread(shown.images.ids[image], drawn.fault))
            if on_progress is not None:
                on_progress(image + 1, len(sources))
        faulty = {one.id for one in unread}
        pictures = [
            "" if image_id in faulty else work.picture(image).as_posix()
            for image, image_id in enumerate(shown.images.ids)
        ]
        files = [name for of_image in crops for name in of_image]
        _write_index(folder / INDEX, shown, pictures, files)
        sheets = _write_sheets(folder, shown, files, config)
    return Shown(
        pictures=len(pictures) - len(unread),
        crops=sum(map(bool, files)),
        sheets=sheets,
        unread=tuple(unread),
    )


class _Work(NamedTuple):
    """What is drawn, and where to."""

    shown: Judged
    names: list[PurePosixPath]
    folder: Path
    config: ShowConfig

    def picture(self, image: int) -> PurePosixPath:
        return PurePosixPath(IMAGES) / picture_name(self.names[image], f".{self.config.picture}")

    def draw(self, image: int, source: "ImageSource") -> _Drawn:
        """One image read, drawn and written with its crops."""
        from smallobj.datasets import read_image  # noqa: PLC0415 - loads torch

        marks = marks_of(self.shown, image)
        try:
            pixels = read_image(source, max_megapixels=self.config.max_megapixels)
        except InputError as error:
            value = "" if error.value is None else f", got {error.value}"
            return _Drawn([""] * len(marks.kind), error.reason + value)
        photograph = Image.fromarray(pixels.permute(1, 2, 0).numpy())
        if self.config.picture == "jpg" and max(photograph.size) > _JPEG_MOST_PX - 1000:
            return _Drawn([""] * len(marks.kind), "image is too long for a JPEG: say --picture png")
        crops = (
            self._crops(image, photograph, marks) if self.config.crops else [""] * len(marks.kind)
        )
        pen = Pen.for_size(photograph.size, self.config.font)
        draw_marks(photograph, marks, pen)
        legend = [kind for kind in KINDS if kind in marks.kind]
        note = f"{self.shown.images.ids[image]}  {self.config.note}".strip()
        self._save(self.picture(image), with_legend(photograph, legend, note, pen))
        return _Drawn(crops)

    def _crops(self, image: int, photograph: Image.Image, marks: Marks) -> list[str]:
        files = []
        for number, kind in enumerate(marks.kind):
            name = f"{number + 1:03d}-{kind}.{self.config.picture}"
            file = PurePosixPath(CROPS) / self.names[image] / name
            crop = enlarged_crop(photograph, marks, number, font=self.config.font)
            self._save(file, crop)
            files.append(file.as_posix())
        return files

    def _save(self, name: PurePosixPath, picture: Image.Image) -> None:
        _save(self.folder / name, picture, self.config)


def _save(path: Path, picture: Image.Image, config: ShowConfig) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **_SAVE[config.picture])


def _in_threads(work: _Work, sources: "Sequence[ImageSource]") -> Iterator[_Drawn]:
    """Every image drawn, in order; only so many at once that memory stays flat."""
    threads = work.config.threads or min(_MOST_THREADS, cpu_count())
    ahead: deque[tuple[float, Future[_Drawn]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for image, source in enumerate(sources):
                pixels = _pixels(source, work.config)
                while ahead and (
                    len(ahead) > threads or pixels + sum(a[0] for a in ahead) > _AHEAD_PIXELS
                ):
                    yield ahead.popleft()[1].result()
                ahead.append((pixels, pool.submit(work.draw, image, source)))
            while ahead:
                yield ahead.popleft()[1].result()
        finally:
            pool.shutdown(cancel_futures=True)


def _pixels(source: "ImageSource", config: ShowConfig) -> float:
    from smallobj.datasets import image_size  # noqa: PLC0415 - loads torch

    try:
        width, height = image_size(source, max_megapixels=config.max_megapixels)
    except InputError:
        return 0.0  # reading it says why, at its turn
    return float(width) * height


def _write_index(path: Path, shown: Judged, pictures: Sequence[str], crops: Sequence[str]) -> None:
    names = shown.classes.names
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(INDEX_COLUMNS)
        for image, image_id in enumerate(shown.images.ids):
            rows = shown.rows(image)
            for row in range(rows.start, rows.stop):
                other = int(shown.other[row])
                writer.writerow(
                    (
                        image_id,
                        KINDS[shown.kind[row]],
                        names[shown.label[row]],
                        _number(shown.score[row]),
                        _number(shown.iou[row]),
                        "" if other < 0 else names[other],
                        *shown.xyxy[row].tolist(),
                        pictures[image],
                        crops[row],
                    )
                )


def _number(value: float) -> str:
    return "" if np.isnan(value) else repr(float(value))


def _write_sheets(folder: Path, shown: Judged, crops: Sequence[str], config: ShowConfig) -> int:
    """Sheets of every kind: wrong boxes most confident first, right ones least confident first."""
    image_of = np.repeat(np.arange(len(shown.images)), np.diff(shown.offsets))
    written = 0
    for kind in KINDS:
        rows = [row for row in _sheet_order(shown, kind).tolist() if crops[row]]
        tiles = [
            Tile(folder / crops[row], (_caption(shown, row), shown.images.ids[image_of[row]]))
            for row in rows
        ]
        pages = contact_sheets(tiles, f"{kind}: {len(tiles)}", font=config.font)
        for number, page in enumerate(pages, 1):
            _save(folder / SHEETS / f"{kind}-{number:03d}.{config.picture}", page, config)
            written += 1
    return written


def _sheet_order(shown: Judged, kind: str) -> NDArray[np.int64]:
    rows = np.flatnonzero(shown.kind == KINDS.index(kind))
    score = np.nan_to_num(shown.score[rows], nan=0.0)
    return rows[np.argsort(-score if kind in (WRONG, IGNORED) else score, kind="stable")]


def _caption(shown: Judged, row: int) -> str:
    iou, other = shown.iou[row], int(shown.other[row])
    if np.isnan(iou):
        return box_text(shown, row)
    of_other = f" with {shown.classes.names[other]}" if other != shown.label[row] else ""
    return f"{box_text(shown, row)}, IoU {iou:.2f}{of_other}"
