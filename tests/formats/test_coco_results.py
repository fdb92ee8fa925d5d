"""COCO results in and out, with labels that say the image ids and without."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smallobj.boxes import BoxTable, InputError
from smallobj.formats import (
    Labels,
    Run,
    RunInfo,
    align_runs,
    is_run,
    read_labels,
    read_run,
    write_labels,
    write_run,
)

Write = Callable[[Path, str], Path]


@pytest.fixture
def labels(tmp_path: Path, text_file: Write) -> Labels:
    """COCO labels of 000000000007.jpg, 9 and 12, with one class of id 5."""
    content = {
        "images": [{"id": i, "file_name": f"{i:012}.jpg"} for i in (7, 9, 12)],
        "annotations": [],
        "categories": [{"id": 5, "name": "car"}],
    }
    return read_labels(text_file(tmp_path / "labels.json", json.dumps(content)))


def test_coco_results_take_the_images_of_the_labels(
    labels: Labels, tmp_path: Path, text_file: Write
) -> None:
    results = [
        {"image_id": 12, "category_id": 5, "bbox": [1, 2, 3, 4], "score": 0.25},
        {"image_id": 7, "category_id": 5, "bbox": [1, 2, 3, 4], "score": 1},
    ]
    path = text_file(tmp_path / "run.json", json.dumps(results))
    assert read_run(path).table.images.ids == ("7", "12")
    run = read_run(path, labels=labels)
    aligned = align_runs([run], images=labels.table.images, classes=labels.table.classes)
    assert aligned.images.ids == ("000000000007.jpg", "000000000009.jpg", "000000000012.jpg")
    assert aligned.classes.names == ("car",)
    assert aligned.tables[0].offsets.tolist() == [0, 1, 1, 2]
    assert aligned.tables[0].score is not None
    assert aligned.tables[0].score.tolist() == [1, 0.25]


def info_of(run: Run) -> RunInfo:
    return RunInfo(model=run.name, classes=run.table.classes)


def by_image(results: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    rows = [(r["image_id"], r["category_id"], *r["bbox"], r["score"]) for r in results]
    return sorted(rows)


def test_the_golden_results_come_back(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    golden = real_data("coco_golden")
    given = golden / "instances_val2014_fakebbox100_results.json"
    labels = read_labels(golden / "instances_val2014_100.json")
    run = read_run(given, labels=labels)
    assert run.table.images.ids[0].endswith(".jpg")
    out = tmp_path / "again.json"
    assert write_run(out, run.table, info_of(run), kind="coco", labels=labels) == []
    written, original = (by_image(json.loads(path.read_text())) for path in (out, given))
    assert len(written) == len(original) == 734
    for a, b in zip(written, original, strict=True):
        assert a == pytest.approx(b, rel=0, abs=1e-8)
        assert (*a[:2], a[-1]) == (*b[:2], b[-1])  # ids and scores to the last digit
    again = read_run(out, labels=labels)
    assert again.info == info_of(run)
    assert again.table == run.table
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.json", "again.run.toml"]


def test_pycocotools_reads_what_is_written(
    real_data: Callable[[str], Path], tmp_path: Path
) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    golden = real_data("coco_golden")
    truth = golden / "instances_val2014_100.json"
    labels = read_labels(truth)
    run = read_run(golden / "instances_val2014_fakebbox100_results.json", labels=labels)
    classes = align_runs([run], classes=labels.table.classes).tables[0]
    write_run(
        tmp_path / "r.json",
        classes,
        replace(info_of(run), classes=classes.classes),
        kind="coco",
        labels=labels,
    )
    assert len(coco.COCO(str(truth)).loadRes(str(tmp_path / "r.json")).anns) == 734


def test_images_that_are_numbers_need_no_labels(
    tmp_path: Path, table_of: Callable[..., BoxTable]
) -> None:
    table = table_of({"7": [(1, 1, 1, 9, 9, 0.5)], "9": [], "12": [(0, 2, 2, 4, 5, 0.25)]})
    info = RunInfo(model="m", classes=table.classes)
    notes = write_run(tmp_path / "r.json", table, info, kind="coco")
    assert notes == ["1 image without boxes does not stand in COCO results"]
    assert json.loads((tmp_path / "r.json").read_text()) == [
        {"image_id": 7, "category_id": 1, "bbox": [1, 1, 8, 8], "score": 0.5},
        {"image_id": 12, "category_id": 0, "bbox": [2, 2, 2, 3], "score": 0.25},
    ]
    again = read_run(tmp_path / "r.json").table
    assert again.images.ids == ("7", "12")
    assert again.classes == table.classes


@pytest.mark.parametrize("name", ["a.jpg", "007", "²", "-1", "7.jpg"])
def test_other_images_need_labels(
    name: str, tmp_path: Path, table_of: Callable[..., BoxTable]
) -> None:
    table = table_of({name: [(1, 1, 1, 9, 9, 0.5)]})
    info = RunInfo(model="m", classes=table.classes)
    with pytest.raises(InputError, match=r"r.json: item .*: .*by number.*\(--labels\)"):
        write_run(tmp_path / "r.json", table, info, kind="coco")
    assert list(tmp_path.iterdir()) == []


def test_images_take_the_ids_of_the_labels(
    labels: Labels, tmp_path: Path, table_of: Callable[..., BoxTable]
) -> None:
    table = table_of({"val/000000000012.jpg": [(0, 1, 1, 9, 9, 0.5)]})
    info = RunInfo(model="m", classes=table.classes)
    write_run(tmp_path / "r.json", table, info, kind="coco", labels=labels)
    assert json.loads((tmp_path / "r.json").read_text())[0]["image_id"] == 12
    other = table_of({"000000000012.jpg": [], "8.jpg": [(0, 1, 1, 9, 9, 0.5)]})
    with pytest.raises(InputError, match=r"labels.json: item 8.jpg: lacks 1 of 2 images"):
        write_run(tmp_path / "s.json", other, info, kind="coco", labels=labels)
    write_labels(table_of({"8.jpg": []}), tmp_path / "truth", "challenge")
    with pytest.raises(InputError, match="truth: holds challenge labels; only COCO labels"):
        write_run(
            tmp_path / "s.json", other, info, kind="coco", labels=read_labels(tmp_path / "truth")
        )
    assert not list(tmp_path.glob("s.*"))


def test_a_list_of_test_images_says_the_ids(
    tmp_path: Path, text_file: Write, table_of: Callable[..., BoxTable]
) -> None:
    content = (
        '{"images": [{"id": 3, "file_name": "8.jpg"}], "categories": [{"id": 1, "name": "a"}]}'
    )
    labels = read_labels(text_file(tmp_path / "image_info.json", content))
    assert (labels.kind, len(labels.table)) == ("coco", 0)
    table = table_of({"8.jpg": [(0, 1, 1, 9, 9, 0.5)]})
    info = RunInfo(model="m", classes=table.classes)
    write_run(tmp_path / "r.json", table, info, kind="coco", labels=labels)
    assert json.loads((tmp_path / "r.json").read_text())[0]["image_id"] == 3


def test_results_do_not_tell_which_images_were_looked_at(
    labels: Labels, tmp_path: Path, text_file: Write
) -> None:
    result = '[{"image_id": 7, "category_id": 5, "bbox": [1, 2, 3, 4], "score": 0.25}]'
    run = read_run(text_file(tmp_path / "run.json", result), labels=labels)
    missing = f"{run.path} lacks 2 of 3 images; counted as nothing found"
    assert align_runs([run], images=labels.table.images).notes == [missing]
    common = align_runs([run], images=labels.table.images, common=True)
    assert common.notes[1] == (
        f"{run.path}: COCO results name no image without boxes, so none of those counts"
    )


def test_two_ids_of_one_image_are_refused(labels: Labels, tmp_path: Path, text_file: Write) -> None:
    result = {"category_id": 5, "bbox": [1, 2, 3, 4], "score": 0.25}
    results = [{"image_id": i, **result} for i in (7, "000000000007.jpg")]
    path = text_file(tmp_path / "run.json", json.dumps(results))
    with pytest.raises(InputError, match=r"second id of the image 000000000007\.jpg"):
        read_run(path, labels=labels)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("[]", True),
        ('{"a.jpg": [[1, 2, 3, 4, 5, 0.5]]}', True),
        ('{"a.jpg": [], "b.jpg": [[1, 2, 3, 4, 5, 0.5]]}', True),
        ('{"a.jpg": [[1, 2, 3, 4, 5]]}', False),
        ('{"a.jpg": []}', False),
        ('{"images": [], "annotations": [{"segmentation": [[1, 2, 3, 4, 5, 6]]}]}', False),
    ],
)
def test_runs_are_told_from_labels(
    content: str, expected: bool, tmp_path: Path, text_file: Write
) -> None:
    path = text_file(tmp_path / "x.json", content)
    assert is_run(path) is expected
    text_file(tmp_path / "x.run.toml", "")
    assert is_run(path)
    assert not is_run(tmp_path)
