"""Fusing Parquet runs a part at a time gives what fusing them whole gives."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from smallobj.boxes import BoxTable, Classes, Images
from smallobj.cli.main import main
from smallobj.ensemble import FusionConfig, Recipe, clip_scores, fuse, write_recipe
from smallobj.ensemble import fuse_files as files
from smallobj.ensemble.calibration import fit_calibration
from smallobj.formats import RunInfo, align_runs, read_run, read_runs, write_run

NAMES = Classes.of(["car", "bus"], [3, 7])
IMAGES, RUNS = 40, 3


def random_runs(seed: int = 0) -> list[BoxTable]:
    rng = np.random.default_rng(seed)
    images = Images.of([f"{i}.jpg" for i in range(IMAGES)], [(640, 480)] * IMAGES)
    objects = rng.uniform(20, 400, (IMAGES, 6, 2))
    tables = []
    for _ in range(RUNS):
        index = np.repeat(np.arange(IMAGES), 6)
        corner = (objects + rng.normal(0, 3, objects.shape)).reshape(-1, 2)
        keep = rng.random(len(index)) < 0.8
        keep &= index % 7 != 3  # images without boxes
        tables.append(
            BoxTable.build(
                images=images,
                classes=NAMES,
                image_index=index[keep],
                xyxy=np.concatenate([corner, corner + 40], axis=1)[keep],
                label=(index % 2)[keep],
                score=rng.random(int(keep.sum())),
            )
        )
    return tables


def write_runs(folder: Path, tables: Sequence[BoxTable], kind: str) -> list[Path]:
    ending = {"parquet": ".parquet"}.get(kind, ".json")
    paths = [folder / f"run{number}{ending}" for number in range(len(tables))]
    for path, table in zip(paths, tables, strict=True):
        write_run(path, table, RunInfo(model=path.stem, classes=NAMES), kind=kind)
    return paths


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few images at a time, so that there are many parts."""
    from smallobj.formats.parquet_stream import RunStream

    chunks = RunStream.chunks
    monkeypatch.setattr(RunStream, "chunks", lambda stream: chunks(stream, 60))


def command(*arguments: object) -> int:
    try:
        main(["fuse", *map(str, arguments)])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize(
    ("options", "config"),
    [
        ((), FusionConfig()),
        (
            ("--weights", "3,1,0.5", "--conf-type", "avg"),
            FusionConfig(weights=(3, 1, 0.5), conf_type="avg"),
        ),
        (
            ("--method", "nms", "--iou", "0.4", "--min-votes", "2"),
            FusionConfig(method="nms", iou=0.4, min_votes=2),
        ),
        (
            ("--method", "soft_nms", "--soft", "linear", "--skip", "0.1"),
            FusionConfig(method="soft_nms", soft="linear", skip=0.1),
        ),
        (("--method", "soft_nms", "--sigma", "0.2"), FusionConfig(method="soft_nms", sigma=0.2)),
        (
            ("--method", "nmw", "--class-agnostic", "--nms-iou", "0.5"),
            FusionConfig(method="nmw", class_agnostic=True, nms_iou=(0.5,) * 3),
        ),
        (
            ("--shift-px", "4", "--nms-iou", "1,0.5,0.2", "--max-detections", "3"),
            FusionConfig(shift_px=4, nms_iou=(1, 0.5, 0.2), max_detections=3),
        ),
        (
            ("--conf-type", "avg", "--allows-overflow", "--max-detections", "0"),
            FusionConfig(conf_type="avg", allows_overflow=True, max_detections=None),
        ),
    ],
)
def test_parts_give_what_the_whole_gives(
    tmp_path: Path, options: tuple[str, ...], config: FusionConfig
) -> None:
    tables = random_runs()
    paths = write_runs(tmp_path, tables, "parquet")
    out = tmp_path / "fused.parquet"
    assert command(*paths, "--out", out, *options) == 0
    wanted, _ = clip_scores(fuse(tables, config))
    assert read_run(out).table == wanted
    assert pq.ParquetFile(out).num_row_groups > 5
    again = tmp_path / "fused.json"
    assert command(*paths, "--out", again, *options) == 0  # read in parts, written at once
    assert read_run(again).table.offsets.tolist() == wanted.offsets.tolist()


def test_whole_runs_are_fused_in_parts_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = random_runs()
    paths = write_runs(tmp_path, tables, "challenge")
    monkeypatch.setattr(files, "CHUNK_ROWS", 60)
    out = tmp_path / "fused.parquet"
    assert command(*paths, "--out", out) == 0
    assert read_run(out).table == fuse(align_runs(read_runs(paths)).tables)
    assert pq.ParquetFile(out).num_row_groups > 5


def test_runs_out_of_order_are_read_whole_and_that_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    paths = write_runs(tmp_path, random_runs(), "parquet")
    assert command(*paths, "--out", tmp_path / "sorted.parquet") == 0
    assert "read whole" not in capfd.readouterr().err
    table = pq.read_table(paths[1])
    pq.write_table(table.take(np.random.default_rng(0).permutation(len(table))), paths[1])
    assert command(*paths, "--out", tmp_path / "shuffled.parquet") == 0
    told = capfd.readouterr().err
    assert f"note: {paths[1]} is not sorted by image: the runs are read whole" in told
    one, other = (read_run(tmp_path / f"{name}.parquet").table for name in ("sorted", "shuffled"))
    assert one.images.ids == other.images.ids
    assert np.array_equal(one.offsets, other.offsets)


@pytest.mark.usefixtures("small_parts")
def test_a_recipe_calibrates_and_cuts_every_part(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from smallobj.ensemble.operating_point import apply_thresholds, choose_thresholds

    tables = random_runs()
    truth = BoxTable.build(
        images=tables[0].images,
        classes=NAMES,
        image_index=tables[0].image_index,
        xyxy=tables[0].xyxy,
        label=tables[0].label,
    )
    fits = tuple(fit_calibration(truth, table, method="platt") for table in tables)
    config = FusionConfig(weights=(1.0, 2.0, 1.0), iou=0.5)
    models = tuple(f"run{number}" for number in range(RUNS))
    plain = Recipe(models=models, config=config, calibrations=fits)
    wanted = fuse(plain.prepare(tables), config)
    point = choose_thresholds(truth, wanted, goal=("recall", 0.5))
    recipe = tmp_path / "recipe.toml"
    write_recipe(
        recipe, Recipe(models=models, config=config, calibrations=fits, operating_point=point)
    )
    paths, out = write_runs(tmp_path, tables, "parquet"), tmp_path / "fused.parquet"
    assert command(*paths[::-1], "--out", out, "--recipe", recipe) == 0
    assert np.allclose(read_run(out).table.xyxy, wanted.xyxy, rtol=0, atol=1e-9)
    assert command(*paths, "--out", out, "--recipe", recipe, "--thresholds") == 0
    cut = apply_thresholds(wanted, point)
    assert 0 < len(cut) < len(wanted)
    assert np.allclose(read_run(out).table.xyxy, cut.xyxy, rtol=0, atol=1e-9)
    told = capfd.readouterr().err
    assert f"{len(wanted) - len(cut)} boxes below the thresholds left out" in told


@pytest.mark.usefixtures("small_parts")
def test_a_recipe_scores_every_part_by_what_was_learnt_and_tells_the_origins(
    tmp_path: Path,
) -> None:
    from smallobj.ensemble import read_recipe
    from smallobj.ensemble.fusion import fuse_traced
    from smallobj.ensemble.learnt_confidence import fit_confidence

    tables = random_runs()
    truth = replace(tables[0], score=None)
    config = FusionConfig(weights=(1.0, 2.0, 0.0), iou=0.5, max_detections=3)
    traced = fuse_traced(tables[:2], replace(config, weights=(1.0, 2.0), max_detections=None))
    recipe = Recipe(
        models=tuple(f"run{number}" for number in range(RUNS)),
        config=config,
        confidence=fit_confidence(truth, *traced, tables[:2]),
    )
    path, out, origins = (tmp_path / name for name in ("r.toml", "fused.parquet", "origins.csv"))
    write_recipe(path, recipe)
    assert read_recipe(path) == recipe
    paths = write_runs(tmp_path, tables, "parquet")
    assert command(*paths[::-1], "--out", out, "--recipe", path, "--provenance", origins) == 0
    wanted, fused = recipe.fuse(tables[:2]), read_run(out).table
    assert np.diff(fused.offsets).max() == 3
    assert np.allclose(fused.xyxy, wanted.xyxy, rtol=0, atol=1e-9)
    assert np.allclose(fused.score, wanted.score, rtol=0, atol=1e-9)
    told = {tuple(line.split(",")[:2]) for line in origins.read_text().splitlines()[1:]}
    assert len(told) == len(fused)
    assert command(*paths, "--out", out, "--recipe", path, "--backend", "ensemble-boxes") == 2


@pytest.mark.usefixtures("small_parts")
def test_a_fault_half_way_leaves_nothing_written(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    paths = write_runs(tmp_path, random_runs(), "parquet")
    table = pq.read_table(paths[2])
    score = table["score"].to_numpy().copy()
    score[-5] = 7
    column = table.schema.get_field_index("score")
    pq.write_table(table.set_column(column, "score", [score]), paths[2])
    before = set(tmp_path.iterdir())
    out, origin = tmp_path / "new" / "fused.parquet", tmp_path / "new" / "origin.csv"
    assert command(*paths, "--out", out, "--provenance", origin) == 2
    error = capfd.readouterr().err
    assert f"run2.parquet: item row {len(score) - 5}: field score" in error
    assert error.count("\n") == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path not in before]


def test_the_command_itself_fuses_parquet(tmp_path: Path) -> None:
    tables = random_runs()
    paths, out = write_runs(tmp_path, tables, "parquet"), tmp_path / "fused.parquet"
    program = Path(sys.executable).with_name("smallobj")
    arguments = [str(program), "fuse", *map(str, paths), "--to", "parquet", "--out", str(out)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=120)
    assert f"{IMAGES} images" in done.stdout
    assert done.stderr == ""
    run = read_run(out)
    assert run.table == fuse(tables)
    assert run.info is not None
    assert run.info.model == "run0 + run1 + run2"
