"""Pascal VOC: an XML file an image, `JPEGImages/`, `Annotations/`, `ImageSets/Main/`.

VOC counts pixels from 1 and names the last pixel, so a box is read `xmin-1, ymin-1, xmax, ymax`.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from xml.parsers import expat
from xml.sax.saxutils import escape

import numpy as np

from smallobj.boxes import Array, BoxTable, Classes, InputError
from smallobj.formats.challenge import DECIMALS
from smallobj.formats.class_names import find_names, names_text, read_names
from smallobj.formats.faults import Faults
from smallobj.formats.image_files import locate_images
from smallobj.formats.image_ids import natural_key, normal_id, stem
from smallobj.formats.output import (
    Output,
    put_images,
    require_one_stem_each,
    whole_folder,
    write_into,
)
from smallobj.formats.raw import RawLabels, Request, RowList
from smallobj.formats.values import parse_number

LOOKED_FOR = "Pascal VOC (Annotations/*.xml)"
_EDGES = ("xmin", "ymin", "xmax", "ymax")


class _Annotated(NamedTuple):
    """One XML file."""

    file: Path
    stem: str  # its path below Annotations without ending, POSIX
    image_id: str
    size: tuple[int, int]
    names: list[str]
    given: list[list[float]]
    number: list[int]


def find(data: Path, request: Request) -> list[Path]:
    """The folder itself where it, or its `Annotations/`, holds XML files; else folders below."""
    if not data.is_dir():
        return []
    annotations = data / "Annotations"
    if next(annotations.rglob("*.xml") if annotations.is_dir() else data.glob("*.xml"), None):
        return [data]
    return [p.parent for p in sorted(data.glob("*/Annotations")) if next(p.rglob("*.xml"), None)]


def read(place: Path, request: Request, faults: Faults) -> RawLabels:
    """Labels of a folder; boxes marked difficult count like the others.

    Classes are named by a names file beside, else they are the names in use, sorted.
    """
    folder = _annotation_folder(place)
    files = sorted(
        folder.rglob("*.xml"), key=lambda p: natural_key(p.relative_to(folder).as_posix())
    )
    every = [a for f in files if (a := _read_file(f, folder, faults)) is not None]
    classes = _classes(place, request, every)
    chosen = every if request.split is None else _split(place, request.split, every, faults)
    annotated = sorted(_unique(chosen, faults), key=lambda a: natural_key(a.image_id))
    rows = RowList()
    for image, one in enumerate(annotated):
        _add_rows(rows, image, one, classes, faults)
    columns = rows.columns()
    ids = [a.image_id for a in annotated]
    usual = ("JPEGImages", "images", "../JPEGImages", "../images")
    located = locate_images(
        ids, images=request.images, labels=place, usual=usual[: 2 if folder != place else 4]
    )
    return RawLabels(
        ids=tuple(ids),
        sizes=np.array([a.size for a in annotated], np.int32).reshape(-1, 2),
        root=located.root,
        images_clash=located.clash,
        paths=located.paths,
        files=tuple(a.file for a in annotated),
        classes=classes,
        xyxy=_corners(columns["given"], request.voc_origin),
        row_field="object {}",
        unlabelled=() if request.split else located.others,
        **columns,
    )


def write(table: BoxTable, out: Path, output: Output) -> list[str]:
    """Write the folder `out`; images are linked or copied into `JPEGImages/`."""
    require_one_stem_each(table.images.ids)
    edges = np.round(table.xyxy + _shift(output.voc_origin), DECIMALS).tolist()
    stems = [str(PurePosixPath(image_id).with_suffix("")) for image_id in table.images.ids]
    with whole_folder(out) as folder:
        for image, name in enumerate(stems):
            rows = table.rows(image)
            write_into(folder, f"Annotations/{name}.xml", _xml(table, image, edges[rows]))
        write_into(folder, "ImageSets/Main/all.txt", "".join(f"{s}\n" for s in stems))
        write_into(folder, "classes.txt", names_text(Classes.of(table.classes.names)))
        return put_images(table.images.ids, folder / "JPEGImages", output)


def parse_xml(path: Path) -> ET.Element:
    """The root of an XML file; entities are refused, so nothing expands and nothing is fetched.

    Raises InputError where the file cannot be read or is not XML.
    """
    builder = ET.TreeBuilder()
    parser = expat.ParserCreate()
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data

    def refuse(*_: object) -> None:
        raise InputError("declares an entity, which is refused", file=path)

    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(path.read_bytes(), True)
    except expat.ExpatError as error:
        raise InputError(f"is not XML: {error}", file=path) from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=path) from error
    return builder.close()


def _shift(voc_origin: int) -> Array:
    return np.array([1.0, 1.0, 0.0, 0.0]) if voc_origin == 1 else np.zeros(4)


def _corners(edges: Array, voc_origin: int) -> Array:
    """Corners of boxes [M, 4]; a single point, a click without a drag, gets no area."""
    point = (edges[:, :2] == edges[:, 2:]).all(axis=1)
    return np.where(point[:, None], edges, edges - _shift(voc_origin))


def _annotation_folder(place: Path) -> Path:
    folder = place / "Annotations"
    return folder if folder.is_dir() else place


def _read_file(file: Path, folder: Path, faults: Faults) -> _Annotated | None:
    try:
        root = parse_xml(file)
    except InputError as error:
        faults.add("unreadable labels", error.reason, file=file)
        return None
    if root.tag != "annotation":
        faults.add("unreadable labels", "is no VOC annotation", file=file, value=root.tag)
        return None
    relative = PurePosixPath(normal_id(file.relative_to(folder).as_posix()))
    image_id = _image_id(root, relative)
    one = _Annotated(
        file,
        str(relative.with_suffix("")),
        image_id,
        _size(root, file, image_id, faults),
        [],
        [],
        [],
    )
    for number, item in enumerate(root.findall("object")):
        name = (item.findtext("name") or "").strip()
        place = {"file": file, "item": image_id}
        if not name:
            faults.add("unknown class", "class is missing", field=f"object {number} name", **place)
            continue
        edges = _edges(item, number, faults, file, image_id)
        if edges is not None:
            one.names.append(name)
            one.given.append(edges)
            one.number.append(number)
    return one


def _image_id(root: ET.Element, relative: PurePosixPath) -> str:
    name = normal_id((root.findtext("filename") or "").strip())
    if not name:
        return f"{relative.with_suffix('')}.jpg"
    return name if "/" in name else str(relative.parent / name)


def _size(root: ET.Element, file: Path, image_id: str, faults: Faults) -> tuple[int, int]:
    size = []
    for name in ("width", "height"):
        text = (root.findtext(f"size/{name}") or "0").strip()
        value, reason = parse_number(text)
        if reason is None and value < 0:
            reason = "is negative"
        if reason is not None:
            faults.add(
                "not a number", reason, file=file, item=image_id, field=f"size {name}", value=text
            )
            value = 0
        size.append(int(value))
    return size[0], size[1]


def _edges(
    item: ET.Element, number: int, faults: Faults, file: Path, image_id: str
) -> list[float] | None:
    edges = []
    for name in _EDGES:
        text = item.findtext(f"bndbox/{name}")
        value, reason = (0.0, "value is missing") if text is None else parse_number(text.strip())
        if reason is not None:
            field = f"object {number} {name}"
            faults.add("not a number", reason, file=file, item=image_id, field=field, value=text)
            return None
        edges.append(value)
    return edges


def _classes(place: Path, request: Request, annotated: Sequence[_Annotated]) -> Classes:
    known = read_names(request.names) if request.names else find_names(place)
    return known or Classes.of(sorted({name for a in annotated for name in a.names}))


def _unique(annotated: Sequence[_Annotated], faults: Faults) -> list[_Annotated]:
    first: dict[str, _Annotated] = {}
    for one in annotated:
        if one.image_id in first:
            other = first[one.image_id].file
            reason = f"image is named in {other} too"
            faults.add(
                "duplicate image", reason, file=one.file, field="filename", item=one.image_id
            )
            continue
        first[one.image_id] = one
    return list(first.values())


def _split(
    place: Path, split: str, annotated: Sequence[_Annotated], faults: Faults
) -> list[_Annotated]:
    folder = place / "ImageSets" / "Main"
    file = folder / f"{split}.txt"
    if not file.is_file():
        known = sorted(p.stem for p in folder.glob("*.txt"))
        there = f"; there are {', '.join(known)}" if known else ""
        raise InputError(f"no such split{there}", file=file)
    by_stem = {a.stem: a for a in annotated}
    by_base = {stem(a.stem + ".xml"): a for a in annotated}
    chosen = []
    for line in file.read_text(encoding="utf-8-sig").splitlines():
        name = normal_id(line.strip())
        if not name:
            continue
        short = re.sub(r"\s+-?[01]$", "", name)  # class-wise lists: `name 1`, `name -1`
        one = by_stem.get(name) or by_base.get(name) or by_stem.get(short) or by_base.get(short)
        if one is None:
            faults.add("missing labels", "no annotation of this name", file=file, item=name)
        elif one not in chosen:
            chosen.append(one)
    return chosen


def _add_rows(rows: RowList, image: int, one: _Annotated, classes: Classes, faults: Faults) -> None:
    label = {name: i for i, name in enumerate(classes.names)}
    for name, given, number in zip(one.names, one.given, one.number, strict=True):
        if name in label:
            rows.add(image, label[name], given, number)
            continue
        faults.add(
            "unknown class",
            f"unknown class; known are {', '.join(classes.names)}",
            file=one.file,
            item=one.image_id,
            field=f"object {number} name",
            value=name,
        )


def _xml(table: BoxTable, image: int, edges: list[list[float]]) -> str:
    width, height = int(table.images.width[image]), int(table.images.height[image])
    lines = [
        "<annotation>",
        f"  <filename>{escape(table.images.ids[image])}</filename>",
        f"  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>",
    ]
    for box, class_index in zip(edges, table.label[table.rows(image)], strict=True):
        corners = "".join(f"<{n}>{_shortest(v)}</{n}>" for n, v in zip(_EDGES, box, strict=True))
        name = escape(table.classes.names[class_index])
        inner = f"<name>{name}</name><difficult>0</difficult><bndbox>{corners}</bndbox>"
        lines.append(f"  <object>{inner}</object>")
    return "\n".join([*lines, "</annotation>", ""])


def _shortest(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
