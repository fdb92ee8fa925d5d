"""What `fuse --provenance` says of where each fused box came from."""

import csv
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smallobj.boxes import BoxTable, Classes, Images, Source
from smallobj.cli.main import main
from smallobj.ensemble import FusionConfig, Recipe, write_recipe
from smallobj.ensemble.calibration import fit_calibration
from smallobj.formats import RunInfo, read_run, write_run

NAMES = Classes.of(["cat", "dog"], [3, 7])
Lines = list[dict[str, Any]]


def command(*arguments: object) -> int:
    try:
        main(["fuse", *map(str, arguments)])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def write_json(path: Path, boxes: object, views: tuple[str, ...] = ()) -> Path:
    path.write_text(json.dumps(boxes))
    text = f'model = "model-{path.stem}"\nviews = {json.dumps(list(views))}\n'
    text += 'classes = {names = ["cat", "dog"], ids = [3, 7]}\n'
    path.with_suffix(".run.toml").write_text(text)
    return path


def read_csv(path: Path) -> Lines:
    with path.open(newline="") as stream:
        return [
            {key: _value(key, value) for key, value in line.items()}
            for line in csv.DictReader(stream)
        ]


def _value(key: str, value: str) -> object:
    return value if key in {"image", "class", "run", "view"} else float(value)


def read_jsonl(path: Path) -> Lines:
    return [json.loads(line) for line in path.read_text().splitlines()]


def read_parquet(path: Path) -> Lines:
    return pq.read_table(path).to_pylist()


READERS: dict[str, Callable[[Path], Lines]] = {
    ".csv": read_csv,
    ".jsonl": read_jsonl,
    ".parquet": read_parquet,
}


@pytest.fixture
def hand_made(tmp_path: Path) -> list[Path]:
    """Two cats that join, a cat seen once, a dog elsewhere, a box below --skip."""
    one = {"a.jpg": [[3, 10, 10, 20, 20, 0.9], [3, 200, 0, 9, 9, 0.0001]], 'b,"1".jpg': []}
    two = {
        "a.jpg": [[3, 60, 10, 20, 20, 0.7], [3, 12, 10, 20, 20, 0.3]],
        'b,"1".jpg': [[7, 1, 2, 3, 4, 0.25]],
    }
    return [
        write_json(tmp_path / "one.json", one, ("plain", "hflip")),
        write_json(tmp_path / "two.json", two),
    ]


@pytest.mark.parametrize("ending", READERS)
def test_each_fused_box_names_its_sources(
    hand_made: list[Path], tmp_path: Path, ending: str
) -> None:
    origin = tmp_path / f"origin{ending}"
    arguments = ("--weights", "1,2", "--out", tmp_path / "f.json", "--provenance", origin)
    assert command(*hand_made, *arguments) == 0
    lines = READERS[ending](origin)
    named = [
        (line["image"], line["box"], line["class"], line["run"], line["view"], line["weight"])
        for line in lines
    ]
    fused = read_run(tmp_path / "f.json").table
    joined = 1 if fused.score is not None and fused.score[0] < 0.48 else 0  # which came first
    assert sorted(named, key=str) == sorted(
        [
            ("a.jpg", joined, "cat", "one", "plain|hflip", 1),
            ("a.jpg", joined, "cat", "two", "", 2),
            ("a.jpg", 1 - joined, "cat", "two", "", 2),
            ('b,"1".jpg', 0, "dog", "two", "", 2),
        ],
        key=str,
    )
    cat = next(line for line in lines if line["run"] == "one")
    assert [cat[f"source_{side}"] for side in ("x1", "y1", "x2", "y2")] == [10, 10, 30, 30]
    assert cat["source_score"] == 0.9
    assert cat["x1"] == pytest.approx((0.9 * 10 + 2 * 0.3 * 12) / 1.5)
    assert "source_calibrated" not in cat
    rows = [fused.rows(fused.images.ids.index(line["image"])).start + line["box"] for line in lines]
    assert fused.score is not None
    assert [line["score"] for line in lines] == fused.score[np.array(rows, int)].tolist()


@st.composite
def ensembles(draw: st.DrawFn) -> list[BoxTable]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    images = Images.of([f"{i}.jpg" for i in range(draw(st.integers(1, 5)))])
    tables = []
    for _ in range(draw(st.integers(1, 4))):
        count = int(rng.integers(0, 30))
        corner = rng.integers(0, 20, (count, 2)) * 3.0
        tables.append(
            BoxTable.build(
                images=images,
                classes=NAMES,
                image_index=rng.integers(0, len(images), count),
                xyxy=np.concatenate([corner, corner + rng.uniform(8, 20, (count, 2))], axis=1),
                label=rng.integers(0, 2, count),
                score=rng.random(count),
            )
        )
    return tables


@settings(max_examples=25, deadline=None)
@given(
    tables=ensembles(),
    method=st.sampled_from(["wbf", "nmw", "nms", "soft_nms"]),
    cap=st.sampled_from([0, 2, 100]),
    agnostic=st.booleans(),
)
def test_every_box_has_a_source_and_every_source_one_box(
    tables: list[BoxTable], method: str, cap: int, agnostic: bool
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [folder / f"run{number}.parquet" for number in range(len(tables))]
        for path, table in zip(paths, tables, strict=True):
            write_run(path, table, RunInfo(model=path.stem, classes=NAMES), kind="parquet")
        weights = [1.0, 2.0, 0.5, 3.0][: len(tables)]
        options = [
            "--method",
            method,
            "--max-detections",
            cap,
            "--weights",
            ",".join(map(str, weights)),
        ]
        options += ["--class-agnostic"] if agnostic else []
        out, origin = folder / "fused" / "f.parquet", folder / "o.parquet"
        assert command(*paths, *options, "--out", out, "--provenance", origin) == 0
        fused, lines = read_run(out).table, read_parquet(origin)
    keys = [(line["image"], line["box"]) for line in lines]
    own = np.arange(len(fused)) - np.repeat(fused.offsets[:-1], np.diff(fused.offsets))
    image_ids = [fused.images.ids[i] for i in fused.image_index]
    assert set(keys) == set(zip(image_ids, own.tolist(), strict=True))
    assert keys == sorted(keys, key=keys.index)  # the boxes of one image stand together
    sides = ("x1", "y1", "x2", "y2")
    members = [
        (line["image"], line["run"], line["source_score"], *(line[f"source_{s}"] for s in sides))
        for line in lines
    ]
    assert len(set(members)) == len(members)
    if method == "wbf":
        for row, key in enumerate(zip(image_ids, own.tolist(), strict=True)):
            of_box = [line for line, one in zip(lines, keys, strict=True) if one == key]
            share = [line["weight"] * line["source_score"] for line in of_box]
            boxes = [[line[f"source_{side}"] for side in sides] for line in of_box]
            assert np.average(boxes, axis=0, weights=share) == pytest.approx(fused.xyxy[row])


def test_calibrated_scores_stand_beside_raw_ones(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 300, (60, 2))
    table = BoxTable.build(
        images=Images.of(["a.jpg", "b.jpg"]),
        classes=NAMES,
        image_index=np.repeat([0, 1], 30),
        xyxy=np.concatenate([corner, corner + 20], axis=1),
        label=np.zeros(60, np.int32),
        score=rng.random(60),
    )
    truth = BoxTable(
        images=table.images,
        classes=NAMES,
        offsets=np.array([0, 15, 30]),
        xyxy=np.concatenate([table.xyxy[:15], table.xyxy[30:45]]),
        label=np.zeros(30, np.int32),
    )
    fit = fit_calibration(truth, table, method="platt")
    config = FusionConfig(weights=(1.0,), skip=0.0, max_detections=None)
    recipe, run = tmp_path / "recipe.toml", tmp_path / "m.parquet"
    write_recipe(recipe, Recipe(models=("m",), config=config, calibrations=(fit,)))
    write_run(run, table, RunInfo(model="m", classes=NAMES), kind="parquet")
    origin = tmp_path / "origin.parquet"
    assert (
        command(run, "--recipe", recipe, "--out", tmp_path / "f.json", "--provenance", origin) == 0
    )
    lines = read_parquet(origin)
    after = fit.apply(table).score
    assert after is not None
    assert table.score is not None
    pairs = dict(zip(table.score.tolist(), after.tolist(), strict=True))
    assert len(lines) == 60
    for line in lines:
        assert line["source_calibrated"] == pytest.approx(pairs[line["source_score"]])
    assert any(line["source_calibrated"] != line["source_score"] for line in lines)


def test_views_inside_a_run_are_named(tmp_path: Path) -> None:
    table = BoxTable(
        images=Images.of(["a.jpg"]),
        classes=NAMES,
        offsets=np.array([0, 2]),
        xyxy=np.array([[10.0, 10, 30, 30], [11, 10, 31, 30]]),
        label=np.zeros(2, np.int32),
        score=np.array([0.8, 0.6]),
        source=np.array([1, 0], np.int32),
        sources=(Source("m", "plain"), Source("m", "hflip")),
    )
    run, origin = tmp_path / "m.parquet", tmp_path / "origin.jsonl"
    write_run(run, table, RunInfo(model="m", classes=NAMES), kind="parquet")
    scores = []
    for options in ((), ("--views-as-runs",)):
        out = tmp_path / "f.json"
        arguments = (*options, "--conf-type", "avg", "--out", out, "--provenance", origin)
        assert command(run, *arguments) == 0
        lines = read_jsonl(origin)
        assert {(line["view"], line["source_score"]) for line in lines} == {
            ("hflip", 0.8),
            ("plain", 0.6),
        }
        assert {line["run"] for line in lines} == {"m"}
        scores.append(lines[0]["score"])
    assert scores == pytest.approx([0.7, 0.7])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--provenance", "{folder}/o.txt"), "has to end in .csv, .jsonl, .parquet"),
        (("--provenance", "{run}"), "is one of the runs to fuse"),
        (("--provenance", "{folder}/f.json"), "has to end in .csv"),
        (("--provenance", "{folder}/o.csv", "--backend", "ensemble-boxes"), "field provenance"),
        (("--provenance", "{run}/o.csv"), "cannot be written"),
    ],
)
def test_provenance_that_cannot_be_is_refused_before_the_work(
    hand_made: list[Path],
    tmp_path: Path,
    options: tuple[str, ...],
    said: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    before = set(tmp_path.iterdir())
    given = [option.format(folder=tmp_path, run=hand_made[0]) for option in options]
    assert command(*hand_made, "--out", tmp_path / "f.json", *given) == 2
    assert said in capfd.readouterr().err
    assert set(tmp_path.iterdir()) == before
