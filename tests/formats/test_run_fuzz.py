"""Whatever bytes a run's file holds: it is read whole, or refused in one line."""

import json
import random
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smallobj.boxes import BoxTable, Classes, Images, InputError
from smallobj.formats import RUN_FORMATS, RunInfo, align_runs, is_run, read_run, write_run

KINDS = sorted(RUN_FORMATS)
NAMES = {"openimages": "run.csv", "parquet": "run.parquet", "yolo": "run"}
SPLICES = [  # what a file of another tool, or a slip, may bring
    *(b"nan", b"NaN", b"inf", b"-Infinity", b"1e999", b"1e308", b"-1", b"0", b"1.5", b"1e5", b""),
    *(b",", b";", b"\t", b"\n", b"\r\n", b'"', b"[", b"]", b"{", b"}", b"null", b"true", b" "),
    *(b"\xff", b"\x00", b"\xef\xbb\xbf", "é".encode(), b"\\ud800", b"1_0", b"0x10", b"PAR1"),
    *(b"99999999999999999999", b"-0.0", b"1,5", b"car", b"..", b"/"),
]


def valid(kind: str, folder: Path) -> dict[str, bytes]:
    """The files of a small run of a kind, by their names."""
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 40, (12, 2))
    table = BoxTable.build(
        images=Images.of(["1", "2", "3"], [(64, 48), (640, 480), (100, 100)]),
        classes=Classes.of(["car", "bus"]),
        image_index=np.arange(12) % 2,
        xyxy=np.concatenate([low, low + rng.uniform(1, 8, (12, 2))], axis=1),
        label=rng.integers(0, 2, 12).astype(np.int32),
        score=rng.uniform(0, 1, 12),
    )
    path = folder / NAMES.get(kind, "run.json")
    write_run(path, table, RunInfo(model="m", classes=table.classes), kind=kind)
    files = sorted(path.rglob("*.txt")) if kind == "yolo" else [path]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.fixture(scope="session")
def valid_files() -> dict[str, dict[str, bytes]]:
    with tempfile.TemporaryDirectory() as name:
        found = {}
        for kind in KINDS:
            (Path(name) / kind).mkdir()
            found[kind] = valid(kind, Path(name) / kind)
        return found


def mutated(content: bytes, rng: random.Random) -> bytes:
    """The content with a few bytes put in, left out, overwritten, or lines dealt anew."""
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(content) + 1)
        to = min(len(content), at + rng.randint(0, 8))
        how = rng.randrange(5)
        if how == 0:
            content = content[:at] + rng.choice(SPLICES) + content[at:]
        elif how == 1:
            content = content[:at] + rng.choice(SPLICES) + content[to:]
        elif how == 2:
            content = content[:at] + content[to:]
        elif how == 3:
            content = content[:at] + rng.randbytes(rng.randint(1, 4)) + content[to:]
        else:
            lines = content.split(b"\n")
            lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
            content = b"\n".join(lines)
    return content


def judge(kind: str, files: dict[str, bytes]) -> bool:
    """Read a run of these files; whether it was accepted. What is accepted is sound."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, content in files.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(content)
        path = folder / NAMES.get(kind, "run.json")
        try:
            is_run(path)
            run = read_run(path)
            table = align_runs([run]).tables[0]
        except InputError as error:
            message = str(error)
            assert message.startswith(str(folder)), message
            assert "\n" not in message
            return False
    assert np.isfinite(table.xyxy).all()
    assert (table.xyxy[:, 2:] > table.xyxy[:, :2]).all()
    assert table.score is not None
    assert ((table.score >= 0) & (table.score <= 1)).all()
    assert ((table.label >= 0) & (table.label < len(table.classes))).all()
    if run.unit == "normalised":
        assert table.xyxy.min(initial=0) >= 0
        assert table.xyxy.max(initial=0) <= 1
    return True


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32))
def test_a_damaged_run_is_read_whole_or_refused(
    kind: str, seed: int, valid_files: dict[str, dict[str, bytes]]
) -> None:
    rng = random.Random(seed)
    files = dict(valid_files[kind])
    name = rng.choice(sorted(files))
    judge(kind, {**files, name: mutated(files[name], rng)})


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(
    content=st.binary(max_size=80)
    | st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace"))
)
def test_any_bytes_are_read_or_refused(kind: str, content: bytes) -> None:
    name = "run/a.txt" if kind == "yolo" else NAMES.get(kind, "run.json")
    judge(kind, {name: content})


NUMBER = st.floats() | st.sampled_from(["", "x", "1e5", "0.5", "1_0", "-0.25", "3"])
CELL = st.text(max_size=3) | st.sampled_from(["1.jpg", "car", "1e5", "007"])


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(CELL, CELL, *[NUMBER] * 5), max_size=4), drop=st.integers(0, 7))
def test_any_values_of_a_csv_line_are_judged(rows: list[tuple[object, ...]], drop: int) -> None:
    lines = ["ImageID,LabelName,Conf,XMin,XMax,YMin,YMax"]
    lines += [",".join(json.dumps(c) if c == "," else str(c) for c in row) for row in rows]
    if drop < len(rows):
        lines[-1] = lines[-1].rpartition(",")[0]
    judge("openimages", {"run.csv": "\n".join(lines).encode("utf-8", "surrogatepass")})


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.lists(NUMBER, min_size=4, max_size=7), max_size=4))
def test_any_values_of_a_yolo_line_are_judged(rows: list[list[object]]) -> None:
    text = "\n".join(" ".join(map(str, row)) for row in rows)
    judge("yolo", {"run/a.txt": text.encode()})


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_damaged_runs(kind: str, valid_files: dict[str, dict[str, bytes]]) -> None:
    rng = random.Random(20261121)
    accepted = 0
    for _ in range(2500):
        files = dict(valid_files[kind])
        name = rng.choice(sorted(files))
        accepted += judge(kind, {**files, name: mutated(files[name], rng)})
    assert 0 < accepted < 2500  # the damage is neither harmless nor fatal throughout
