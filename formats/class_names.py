"""Class names beside labels: `data.yaml`, `*.names`, `classes.txt`."""

from pathlib import Path
from typing import Any

import yaml

from smallobj.boxes import Classes, InputError
from smallobj.formats.json_rows import load_json, read_json_bytes
from smallobj.formats.run_info import read_run_info

_LISTS = ("classes.txt", "obj.names", "labels.txt")


def find_names(*folders: Path) -> Classes | None:
    """Classes from the first names file in the folders, None where there is none.

    A `*.names` file beside a JSON file of that name belongs to it. Raises InputError where the
    files of a folder differ.
    """
    for folder in dict.fromkeys(folders):
        lists = [folder / name for name in _LISTS if (folder / name).is_file()]
        named = [p for p in sorted(folder.glob("*.names")) if not p.with_suffix(".json").exists()]
        found = list(dict.fromkeys(lists + named))
        classes = [read_names(path) for path in found]
        if any(other != classes[0] for other in classes[1:]):
            several = ", ".join(path.name for path in found)
            raise InputError(f"several files of class names ({several}); say which", file=folder)
        if classes:
            return classes[0]
    return None


def read_names(path: Path) -> Classes:
    """Classes of a names file, one name a line from id 0 (an empty line skips an id), of a YAML
    file with `names`, of COCO's `categories` in a JSON file, or of a run's TOML.

    Raises InputError where the file cannot be read, names nothing or names a class twice.
    """
    if path.suffix.lower() in {".yaml", ".yml"}:
        classes = yaml_classes(path, read_yaml(path))
        if classes is None:
            raise InputError("has no names", file=path, field="names")
        return classes
    if path.suffix.lower() == ".json":
        return _coco_categories(path)
    if path.suffix.lower() == ".toml":
        return read_run_info(path).classes
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"class names cannot be read: {error}", file=path) from error
    lines = [line.strip() for line in text.split("\n")]
    return _classes(path, {i: name for i, name in enumerate(lines) if name})


def _coco_categories(path: Path) -> Classes:
    content = load_json(path, read_json_bytes(path))
    categories = content.get("categories") if isinstance(content, dict) else None
    if not isinstance(categories, list) or not categories:
        reason = "has no classes: COCO's categories are looked for in a .json"
        raise InputError(reason, file=path, field="categories")
    names: dict[int, str] = {}
    for number, category in enumerate(categories):
        one = category if isinstance(category, dict) else {}
        class_id, name = one.get("id"), one.get("name")
        if type(class_id) is not int or not isinstance(name, str) or class_id in names:
            reason = "a category has a name, and an id (a whole number) of its own"
            raise InputError(reason, file=path, item=f"categories[{number}]", value=category)
        names[class_id] = name
    return _classes(path, names)


def names_text(classes: Classes) -> str:
    """The content of a names file; ids between the classes' own become empty lines.

    Raises InputError where a name has a line break or an id is below 0.
    """
    lines = [""] * (max(classes.source_ids, default=-1) + 1)
    for name, class_id in zip(classes.names, classes.source_ids, strict=True):
        if name != name.strip() or "\n" in name or not name or class_id < 0:
            raise InputError("class cannot stand in a names file", value=(class_id, name))
        lines[class_id] = name
    return "".join(line + "\n" for line in lines)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping; raises InputError otherwise."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8-sig"), _Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read: {error}", file=path) from error
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"is not YAML: {reason}", file=path) from error
    if not isinstance(content, dict):
        raise InputError("has to hold names, train and val", file=path, value=content)
    return content


def yaml_classes(path: Path, content: dict[str, Any]) -> Classes | None:
    """Classes of a `data.yaml`: `names` as a list or a mapping from ids; None where absent."""
    names = content.get("names")
    if names is None:
        return None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not all(type(i) is int and i >= 0 for i in names):
        raise InputError(
            "has to be a list of names or a mapping from ids", file=path, field="names", value=names
        )
    return _classes(path, {i: str(name) for i, name in sorted(names.items())})


class _Loader(yaml.SafeLoader):
    """Safe YAML in which `no` and `on` stay words, so that a class may have such a name."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rules if tag != "tag:yaml.org,2002:bool"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _classes(path: Path, names: dict[int, str]) -> Classes:
    if not names:
        raise InputError("names no class", file=path)
    seen: set[str] = set()
    for name in names.values():
        if name in seen:
            raise InputError("class is named twice", file=path, field="names", value=name)
        seen.add(name)
    return Classes.of(tuple(names.values()), tuple(names))
