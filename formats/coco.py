"""COCO's JSON: labels with images, annotations and categories; results as a list."""

import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

import msgspec
import numpy as np

from smallobj.boxes import BoxTable, Classes, InputError, write_bytes, xywh_to_xyxy, xyxy_to_xywh
from smallobj.formats.challenge import DECIMALS, labels_of
from smallobj.formats.class_names import read_names
from smallobj.formats.faults import Faults
from smallobj.formats.image_files import locate_images
from smallobj.formats.image_ids import id_fault, natural_key, normal_id
from smallobj.formats.json_rows import (
    collector_paused,
    load_json,
    read_json_bytes,
)
from smallobj.formats.output import Output
from smallobj.formats.raw import ImageId, RawLabels, Request
from smallobj.formats.values import LARGEST_NUMBER, Wrong, number_fault

LOOKED_FOR = "COCO JSON (images, annotations, categories)"


class _Image(msgspec.Struct, gc=False):
    id: ImageId
    file_name: str
    width: float | None = None
    height: float | None = None


class _Category(msgspec.Struct, gc=False):
    id: int
    name: str


class _Annotation(msgspec.Struct, gc=False):
    image_id: ImageId
    category_id: int
    bbox: tuple[float, float, float, float]
    area: float | None = None
    iscrowd: int | bool = 0


class _Labels(msgspec.Struct):
    images: list[_Image]
    categories: list[_Category]
    annotations: list[_Annotation] = []  # COCO's lists of test images have none


_T = TypeVar("_T", _Image, _Category, _Annotation)
_Numbered: TypeAlias = list[tuple[int, _T]]  # with the position in the file


class _Content(NamedTuple):
    images: list[tuple[int, _Image]]
    annotations: list[tuple[int, _Annotation]]
    categories: list[tuple[int, _Category]]


_DECODER = msgspec.json.Decoder(_Labels)


def find(data: Path, request: Request) -> list[Path]:
    """Label files of this kind: the file itself, or files in a folder, one below it included."""
    if data.is_file():
        return [data] if is_coco(data) else []
    files = {p for pattern in ("*.json", "*/*.json") for p in data.glob(pattern) if p.is_file()}
    found = [p for p in sorted(files, key=str) if is_coco(p)]
    if request.split is None:
        return found
    return [p for p in found if request.split in re.split(r"[^0-9A-Za-z]+", p.stem)]


def is_coco(path: Path) -> bool:
    """Whether a file holds COCO labels, or COCO's list of the images of a test."""
    with path.open("rb") as stream:
        if not stream.read(512).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
            return False
    found = set(re.findall(rb'"(categories|images)"\s*:\s*\[', path.read_bytes()))
    return {b"categories", b"images"} <= found


def read(place: Path, request: Request, faults: Faults) -> RawLabels:
    """Labels of one file; images in the order of COCO's own ids, `iscrowd` as ignored boxes."""
    content = _decode(place, read_json_bytes(place), faults)
    images = _unique_images(place, content.images, faults)
    classes = _unique_classes(place, content.categories, request.names, faults)
    position = {image.id: i for i, image in enumerate(images)}
    kept = _known(place, content.annotations, position, set(classes.source_ids), faults)
    ids = tuple(normal_id(image.file_name) for image in images)
    located = locate_images(ids, images=request.images, labels=place, usual=_image_folders(place))
    given = np.array([a.bbox for _, a in kept], np.float64).reshape(-1, 4)
    crowd = np.array([bool(a.iscrowd) for _, a in kept], np.bool_)
    area = np.array([np.nan if a.area is None else a.area for _, a in kept], np.float64)
    own_area = np.abs(given[:, 2] * given[:, 3])
    return RawLabels(
        ids=ids,
        sizes=np.array([(i.width or 0, i.height or 0) for i in images], np.int32).reshape(-1, 2),
        root=located.root,
        images_clash=located.clash,
        paths=located.paths,
        files=(place,) * len(ids),
        classes=classes,
        image_index=np.array([position[a.image_id] for _, a in kept], np.int64),
        xyxy=xywh_to_xyxy(given),
        label=labels_of(np.array([a.category_id for _, a in kept], np.int64), classes),
        given=given,
        number=np.array([number for number, _ in kept], np.int64),
        row_field="annotations[{}].bbox",
        area=None if np.isnan(area).all() else np.where(np.isnan(area), own_area, area),
        ignore=crowd if crowd.any() else None,
        source_image_ids=tuple(image.id for image in images),
        unlabelled=located.others,
    )


def write(table: BoxTable, out: Path, output: Output) -> list[str]:
    """Write COCO labels as the file `out`; category ids are the classes' source ids."""
    image_ids = output.source_image_ids or tuple(range(1, len(table.images) + 1))
    sizes = zip(table.images.width.tolist(), table.images.height.tolist(), strict=True)
    images = [
        {"id": own, "file_name": image_id, "width": width, "height": height}
        for own, image_id, (width, height) in zip(image_ids, table.images.ids, sizes, strict=True)
    ]
    content = {
        "images": images,
        "annotations": list(_annotations(table, image_ids)),
        "categories": [
            {"id": class_id, "name": name}
            for class_id, name in zip(table.classes.source_ids, table.classes.names, strict=True)
        ],
    }
    write_bytes(out, msgspec.json.encode(content))
    unknown = int((table.images.width == 0).sum())
    return [f"{unknown} images have no known size and stand with 0 x 0"] if unknown else []


def _annotations(table: BoxTable, image_ids: Sequence[ImageId]) -> Iterator[dict[str, Any]]:
    xywh = np.round(xyxy_to_xywh(table.xyxy), DECIMALS).tolist()
    area = table.box_area.tolist()
    crowd = [0] * len(table) if table.ignore is None else table.ignore.astype(int).tolist()
    for row, image in enumerate(table.image_index.tolist()):
        yield {
            "id": row + 1,
            "image_id": image_ids[image],
            "category_id": table.classes.source_ids[table.label[row]],
            "bbox": xywh[row],
            "area": area[row],
            "iscrowd": crowd[row],
        }


def _decode(place: Path, content: bytes, faults: Faults) -> _Content:
    try:
        with collector_paused():
            labels = _DECODER.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _walk(place, load_json(place, content), faults)
    return _Content(
        list(enumerate(labels.images)),
        list(enumerate(labels.annotations)),
        list(enumerate(labels.categories)),
    )


def _walk(place: Path, content: Any, faults: Faults) -> _Content:
    """The same from a file with a fault: each part alone, faulty ones reported and left out."""
    if isinstance(content, dict):
        content = {"annotations": [], **content}
    for name in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(name), list):
            raise InputError("COCO labels need this as a list", file=place, field=name)
    return _Content(
        list(_parts(place, "images", content["images"], _Image, faults)),
        list(_parts(place, "annotations", content["annotations"], _Annotation, faults)),
        list(_parts(place, "categories", content["categories"], _Category, faults)),
    )


def _parts(
    place: Path, name: str, parts: list[Any], kind: type[_T], faults: Faults
) -> Iterator[tuple[int, _T]]:
    for number, part in enumerate(parts):
        item = f"{name}[{number}]"
        wrong = number_list_fault(part, "bbox", 4) if kind is _Annotation else None
        if wrong is None:
            try:
                yield number, msgspec.convert(part, kind)
                continue
            except UnicodeEncodeError:  # half a character, which JSON can spell
                wrong = Wrong("wrong value", "", "holds what is not Unicode text", None)
            except msgspec.ValidationError as error:
                wrong = wrong_value(part, error)
        fault, field, reason, value = wrong
        faults.add(fault, reason, file=place, item=item, field=field or None, value=value)


def number_list_fault(part: Any, field: str, count: int) -> Wrong | None:
    """What is wrong with a list of `count` finite numbers in an object; None where nothing is."""
    values = part.get(field) if isinstance(part, dict) else None
    if values is None:
        return None  # absence is found with the other fields
    if not isinstance(values, list) or len(values) != count:
        return Wrong("number of values", field, f"has to be {count} numbers", values)
    for i, value in enumerate(values):
        reason = number_fault(value)
        if reason is not None:
            shown = "null" if value is None else value
            return Wrong("not a number", f"{field}[{i}]", reason, shown)
    return None


def wrong_value(part: Any, error: msgspec.ValidationError) -> Wrong:
    """What msgspec found wrong in an object, with its value."""
    reason, _, where = str(error).partition(" - at `$")
    field = where.strip("`.")
    value = part.get(field) if isinstance(part, dict) and field else part
    return Wrong("wrong value", field, reason, "null" if value is None else value)


def _unique_images(place: Path, images: _Numbered[_Image], faults: Faults) -> list[_Image]:
    by_id: dict[ImageId, _Image] = {}
    names: set[str] = set()
    for number, image in images:
        item = f"images[{number}]"
        name = normal_id(image.file_name)
        wrong_name = id_fault(name)
        if image.id in by_id:
            reason = "image id stands twice"
            faults.add("duplicate image", reason, file=place, item=item, field="id", value=image.id)
        elif name in names or wrong_name is not None:
            kind = "image id" if wrong_name else "duplicate image"
            reason = wrong_name or "file name stands twice"
            faults.add(kind, reason, file=place, item=item, field="file_name", value=name)
        else:
            names.add(name)
            by_id[image.id] = image
    if not by_id:
        raise InputError("holds no images", file=place, field="images")
    return sorted(by_id.values(), key=lambda image: natural_key(str(image.id)))


def _unique_classes(
    place: Path, categories: _Numbered[_Category], names_file: Path | None, faults: Faults
) -> Classes:
    if names_file is not None:
        return read_names(names_file)
    by_id: dict[int, str] = {}
    for number, category in categories:
        if category.id in by_id or category.name in by_id.values():
            field = "id" if category.id in by_id else "name"
            value = getattr(category, field)
            faults.add(
                "duplicate class",
                f"category {field} stands twice",
                file=place,
                item=f"categories[{number}]",
                field=field,
                value=value,
            )
            continue
        by_id[category.id] = category.name
    return Classes.of(tuple(by_id.values()), tuple(by_id))


def _known(
    place: Path,
    annotations: _Numbered[_Annotation],
    image_ids: Collection[ImageId],
    class_ids: Collection[int],
    faults: Faults,
) -> _Numbered[_Annotation]:
    """Annotations whose image and category are there; the others are reported."""
    kept = []
    for number, annotation in annotations:
        item = f"annotations[{number}]"
        if annotation.image_id not in image_ids:
            reason, kind, field = "no such image", "unknown image", "image_id"
        elif annotation.category_id not in class_ids:
            reason, kind, field = "unknown class", "unknown class", "category_id"
        elif max(map(abs, annotation.bbox)) > LARGEST_NUMBER:
            reason, kind, field = f"is beyond {LARGEST_NUMBER:g}", "not a number", "bbox"
        else:
            kept.append((number, annotation))
            continue
        value = getattr(annotation, field)
        faults.add(kind, reason, file=place, item=item, field=field, value=value)
    return kept


def _image_folders(place: Path) -> list[str]:
    """What the image folder is called: like the split, or `images`; COCO's own lies one higher."""
    split = re.sub(r"^(instances|person_keypoints|annotations?|labels?)_?", "", place.stem)
    names = [*([split, f"images/{split}"] if split else []), "images", "data"]
    above = [f"../{name}" for name in names] if place.parent.name == "annotations" else []
    return [*names, *above]
