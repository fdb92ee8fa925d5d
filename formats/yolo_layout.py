"""Which images a YOLO data set has, and where the txt of each lies."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from smallobj.boxes import InputError
from smallobj.formats.class_names import read_yaml
from smallobj.formats.faults import Faults
from smallobj.formats.image_files import IMAGE_ENDINGS, list_images, no_images
from smallobj.formats.image_ids import natural_key, normal_id
from smallobj.formats.raw import Request

SPLITS = ("train", "val", "valid", "test")
_SAME_SPLIT = {"val": "valid", "valid": "val"}


class ImageFile(NamedTuple):
    """An image and its labels."""

    image_id: str
    path: Path
    labels: Path | None  # its txt, where there is one


def data_yamls(folder: Path) -> list[Path]:
    """YAML files in a folder that name a data set's parts or classes."""
    found = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in {".yaml", ".yml"}]
    if len(found) > 1:
        named = [p for p in found if p.stem == "data"]
        found = named or found
    return [p for p in found if {"names", *SPLITS} & _keys(p)]


def beside_images(folder: Path, images: Path | None) -> bool:
    """Whether txt files lie in `labels/` folders or beside images, as labels do."""
    for parent, _, names in os.walk(folder):
        texts = {name[:-4] for name in names if name.endswith(".txt")}
        if not texts:
            continue
        if "labels" in Path(parent).relative_to(folder).parts:
            return True
        if texts & {Path(n).stem for n in names if Path(n).suffix.lower() in IMAGE_ENDINGS}:
            return True
        apart = images is not None or folder.name == "labels"
        if apart and any(_looks_like_labels(Path(parent, f"{t}.txt")) for t in texts):
            return True
    return False


def find_images(place: Path, request: Request, faults: Faults) -> tuple[Path, list[ImageFile]]:
    """The image folder and the images of a data set, in natural order of their ids.

    place: a folder or a `data.yaml`. Raises InputError where there are no images.
    """
    base = place if place.is_dir() else place.parent
    if place.is_file() and request.images is None:
        paths = _listed(place, request.split, faults)
        root = _root_of(paths, base)
    else:
        root = request.images or (base / "images" if (base / "images").is_dir() else base)
        paths = list(list_images(_split_folder(base, root, request.split)).values())
    if not paths:
        raise no_images(root)
    by_id = {_id_under(root, path): path for path in paths}
    ids = sorted(by_id, key=natural_key)
    return root, [ImageFile(i, by_id[i], _labels_of(by_id[i], i, base)) for i in ids]


def orphans(labelled: Sequence[ImageFile], root: Path) -> Iterator[Path]:
    """Label files in the folders of the labels in use that no image belongs to."""
    used = {file.labels for file in labelled}
    for folder in sorted({file.labels.parent for file in labelled if file.labels}):
        places = {folder, _swapped(folder, "labels", "images")}
        places |= {f.path.parent for f in labelled if f.labels and f.labels.parent == folder}
        stems = {stem for p in places if p is not None for stem in _image_stems(p)}
        for path in sorted(folder.glob("*.txt")):
            if path not in used and path.stem not in stems and _looks_like_labels(path):
                yield path


def _keys(path: Path) -> set[str]:
    try:
        return set(map(str, read_yaml(path)))
    except InputError:
        return {"names"} if path.stem == "data" else set()


def _listed(place: Path, split: str | None, faults: Faults) -> list[Path]:
    content = read_yaml(place)
    parts = [name for name in SPLITS if content.get(name)]
    if split is not None:
        parts = [name for name in (split, _SAME_SPLIT.get(split, split)) if name in parts][:1]
    if not parts:
        there = ", ".join(name for name in SPLITS if content.get(name)) or "none of its parts"
        asked = f"no such split; there are {there}" if split else "names no images: needs train"
        raise InputError(asked, file=place, field=split or "train")
    bases = [place.parent / str(content.get("path") or "."), place.parent]
    paths: dict[Path, None] = {}
    for name in parts:
        entries = content[name] if isinstance(content[name], list) else [content[name]]
        for entry in entries:
            paths.update(dict.fromkeys(_entry_images(place, name, entry, bases, faults)))
    return list(paths)


def _entry_images(
    place: Path, name: str, entry: Any, bases: Sequence[Path], faults: Faults
) -> list[Path]:
    text = str(entry)
    inner = text
    while inner.startswith("../"):  # Roboflow writes ../train/images for train/images
        inner = inner[3:]
    for path in (base / part for part in (text, inner) for base in bases):
        if path.is_dir():
            return list(list_images(path).values())
        if path.is_file():
            return _listed_in(path, bases, faults)
    reason = "names a folder or list that is not there"
    faults.add("missing image", reason, file=place, field=name, value=text)
    return []


def _listed_in(file: Path, bases: Sequence[Path], faults: Faults) -> list[Path]:
    found = []
    for line in file.read_text(encoding="utf-8-sig").split("\n"):
        text = line.strip()
        if not text:
            continue
        path = next((p for b in (*bases, file.parent) if (p := b / text).is_file()), None)
        if path is None:
            faults.add("missing image", "image is missing", file=file, item=text)
        else:
            found.append(path)
    return found


def _split_folder(base: Path, root: Path, split: str | None) -> Path:
    if split is None:
        return root
    folders = (root / split, base / split / "images", base / split)
    folder = next((f for f in folders if f.is_dir()), None)
    if folder is None:
        there = ", ".join(s for s in SPLITS if (root / s).is_dir()) or "none"
        raise InputError(f"no such split; there are {there}", file=base, field="split", value=split)
    return folder


def _root_of(paths: Sequence[Path], base: Path) -> Path:
    absolute = [os.path.abspath(p) for p in paths]
    for root in (base / "images", base):
        if all(p.startswith(os.path.join(os.path.abspath(root), "")) for p in absolute):
            return root
    return Path(os.path.commonpath([os.path.dirname(p) for p in absolute])) if absolute else base


def _id_under(root: Path, path: Path) -> str:
    relative = os.path.relpath(os.path.abspath(path), os.path.abspath(root))
    return normal_id(Path(relative).as_posix())


def _labels_of(path: Path, image_id: str, base: Path) -> Path | None:
    name = Path(image_id).with_suffix(".txt")
    swapped = _swapped(path.with_suffix(".txt"), "images", "labels")
    places = (swapped, base / "labels" / name, base / name, path.with_suffix(".txt"))
    return next((p for p in places if p is not None and p.is_file()), None)


def _swapped(path: Path, old: str, new: str) -> Path | None:
    """The path with its last folder `old` called `new`; None where it has none."""
    parts = list(path.parts)
    if old not in parts:
        return None
    last = len(parts) - 1 - parts[::-1].index(old)
    return Path(*parts[:last], new, *parts[last + 1 :])


def _image_stems(folder: Path) -> frozenset[str]:
    names = os.listdir(folder) if folder.is_dir() else []
    return frozenset(Path(n).stem for n in names if Path(n).suffix.lower() in IMAGE_ENDINGS)


def _looks_like_labels(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as stream:
            tokens = stream.readline().split()
        return len(tokens) == 5 and all(isinstance(float(token), float) for token in tokens)
    except (OSError, ValueError):
        return False
