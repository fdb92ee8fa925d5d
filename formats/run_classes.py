"""What the classes of a run are: what the user says, what stands beside it, what it says itself."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smallobj.boxes import Classes, InputError
from smallobj.formats.challenge import numbered_classes
from smallobj.formats.class_names import read_names
from smallobj.formats.raw_run import RawRun


def classes_of_run(
    path: Path, raw: RawRun, said: Classes | None
) -> tuple[NDArray[np.int64], Classes]:
    """Class id of each box [M], all of them in the classes returned with them.

    said: classes by the user, or by the TOML beside the run. Where the file has names of its own,
    they are matched by name; numbers by number. Raises InputError where a class that is in use is
    not among them.
    """
    own = raw.classes
    if said is None:
        classes = own or numbered_classes(raw.class_id)
        _require_known(path, raw, classes)
        return raw.class_id, classes
    if own is None or own == said or (raw.numbered and not has_names(own)):
        _require_known(path, raw, said)
        return raw.class_id, said
    by_name = dict(zip(said.names, said.source_ids, strict=True))
    ids = np.array([by_name.get(name, -1) for name in own.names], np.int64)
    order = np.argsort(np.array(own.source_ids, np.int64))
    at = order[np.searchsorted(np.sort(own.source_ids), raw.class_id)]
    unknown = np.isin(at, [i for i, name in enumerate(own.names) if name not in by_name])
    if unknown.any():
        row = int(np.argmax(unknown))
        raise _unknown(path, raw, row, said.names, own.names[at[row]])
    return ids[at], said


def has_names(classes: Classes) -> bool:
    """Whether classes are more than ids; a run fused of foreign ones has those as names."""
    pairs = zip(classes.names, classes.source_ids, strict=True)
    return any(name != str(class_id) for name, class_id in pairs)


def read_run_classes(values: Sequence[str], runs: Sequence[Path]) -> dict[Path, Classes]:
    """The classes that `--classes RUN=FILE` gives to runs; RUN is a run's name or path.

    FILE is a list of names, a `data.yaml`, COCO labels with their categories, or the `.run.toml`
    of another run. A FILE without a RUN is for all runs that no other value names. Raises
    InputError where a run is not among `runs`, is meant twice, or goes by a name that two have.
    """
    given: dict[Path, Classes] = {}
    others: Classes | None = None
    for value in values:
        name, sign, file = value.rpartition("=")
        if not sign or Path(value).is_file():
            if others is not None:
                raise InputError("two files for all runs", field="classes", value=value)
            others = read_names(Path(value))
            continue
        run = _run_called(name, runs, value)
        if run in given:
            raise InputError("classes of this run are given twice", file=run, field="classes")
        given[run] = read_names(Path(file))
    return {run: given.get(run, others) for run in runs if given.get(run, others)}  # type: ignore[misc]


def require_agreement(path: Path, said: Classes | None, beside: Classes | None) -> None:
    """Raise InputError where the TOML beside a run names a class number otherwise than the user."""
    if said is None or beside is None or not has_names(beside):
        return
    names = dict(zip(beside.source_ids, beside.names, strict=True))
    for name, class_id in zip(said.names, said.source_ids, strict=True):
        if names.get(class_id, name) != name:
            reason = f"class {class_id} is {names[class_id]} in the TOML beside this run"
            raise InputError(reason, file=path, field="classes", value=name)


def _run_called(name: str, runs: Sequence[Path], value: str) -> Path:
    same = [run for run in runs if name == str(run) or Path(name).resolve() == run.resolve()]
    found = same or [run for run in runs if name in (run.name, run.stem)]
    if len(found) == 1:
        return found[0]
    if found:
        reason = f"several runs are called so ({', '.join(map(str, found))}); give the path"
    else:
        reason = f"no such run; the runs are {', '.join(map(str, runs))}"
    raise InputError(reason, field="classes", value=value)


def _require_known(path: Path, raw: RawRun, classes: Classes) -> None:
    unknown = ~np.isin(raw.class_id, classes.source_ids)
    if unknown.any():
        row = int(np.argmax(unknown))
        known: Sequence[Any] = classes.source_ids
        raise _unknown(path, raw, row, known, int(raw.class_id[row]))


def _unknown(path: Path, raw: RawRun, row: int, known: Sequence[Any], value: Any) -> InputError:
    image = int(raw.image_index[row])
    listed = ", ".join(map(str, known[:20])) + (", …" if len(known) > 20 else "")
    return InputError(
        f"unknown class; known are {listed}",
        file=path if raw.files is None else raw.files[image],
        item=raw.ids[image],
        field=f"{raw.row_field.format(int(raw.number[row]))} class",
        value=value,
    )
