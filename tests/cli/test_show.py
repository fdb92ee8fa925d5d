"""`smallobj show` from the shell's side: what it draws, counts and refuses."""

import csv
import json
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from smallobj.cli.main import main

TRUTH = {
    "a.png": [[0, 10, 10, 20, 20], [1, 60, 60, 20, 20]],
    "sub/b10.png": [[0, 5, 5, 12, 12]],
    "sub/b9.png": [],
}
RUN = {
    "a.png": [[0, 10, 10, 20, 20, 0.9], [0, 60, 60, 20, 20, 0.8]],
    "sub/b10.png": [[0, 5, 5, 12, 12, 0.7], [0, 50, 50, 9, 9, 0.05]],
    "sub/b9.png": [],
}


@pytest.fixture
def files(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in TRUTH:
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (100, 90), (80, 90, 100)).save(tmp_path / "photos" / name)
    (tmp_path / "truth.json").write_text(json.dumps(TRUTH))
    (tmp_path / "run.json").write_text(json.dumps(RUN))
    return tmp_path


def show(capsys, *arguments: str, status: int = 0) -> tuple[str, str]:
    with pytest.raises(SystemExit) as end:
        main(["show", "run.json", *arguments, "--out", "shown"])
    output = capsys.readouterr()
    assert end.value.code == status, output.err
    return output.out, output.err


def refused(capsys, *arguments: str) -> str:
    out, error = show(capsys, *arguments, status=2)
    assert out == ""
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not Path("shown").exists()
    return error


def index(folder: str = "shown") -> list[dict[str, str]]:
    with Path(folder, "index.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_right_wrong_and_missed_boxes_are_counted_and_drawn(files, capsys):
    told, _ = show(capsys, "photos", "--labels", "truth.json")
    assert "2 right, 1 wrong, 1 missed in 3 images; score 0.7 and more, where F1 is high" in told
    assert "shown: 3 pictures, 4 crops, 3 contact sheets, index.csv" in told
    # names in natural order: b9 before b10
    assert [row["image"] for row in index()] == ["a.png"] * 3 + ["sub/b10.png"]
    assert [row["other class"] for row in index()] == ["0", "1", "0", "0"]
    assert (files / "shown/images/sub/b9.png.jpg").is_file()


def test_counts_are_those_of_compare(files, capsys):
    told, _ = show(capsys, "photos", "--labels", "truth.json", "--min-score", "0")
    assert "2 right, 2 wrong, 1 missed" in told
    (files / "other.json").write_text(json.dumps(RUN | {"a.png": []}))
    told, _ = show(capsys, "photos", "--labels", "truth.json", "--overwrite")
    assert "2 right, 1 wrong" in told
    with pytest.raises(SystemExit):
        main(["compare", "run.json", "other.json", "--labels", "truth.json", "--json", "c.json"])
    at = json.loads((files / "c.json").read_text())["runs"][0]["at"]
    assert (at["found"], at["false_alarms"]) == (2, 1)


def test_a_part_is_shown_by_kind_class_and_number(files, capsys):
    told, _ = show(capsys, "photos", "--labels", "truth.json", "--only", "missed")
    assert "1 pictures" in told
    assert [row["kind"] for row in index()] == ["missed"]
    show(capsys, "photos", "--labels", "truth.json", "--limit", "1", "--overwrite", "--no-crops")
    assert {row["image"] for row in index()} == {"a.png"}
    assert not (files / "shown/crops").exists()
    show(capsys, "photos", "--labels", "truth.json", "--class", "1", "--overwrite")
    assert [row["kind"] for row in index()] == ["wrong", "missed"]
    error = show(
        capsys, "photos", "--labels", "truth.json", "--overwrite", "--class", "7", status=2
    )
    assert "no such class; known: 0, 1" in error[1]


def test_without_labels_the_detections_are_drawn(files, capsys):
    with zipfile.ZipFile(files / "photos.zip", "w") as archive:
        for name in list(TRUTH)[:2]:
            archive.write(files / "photos" / name, name)
    told, error = show(capsys, "photos.zip", "--picture", "png")
    assert "3 detected in 2 images; score 0.3 and more" in told
    assert "1 of 3 images are not there (sub/b9.png); left out" in error
    assert {row["kind"] for row in index()} == {"detected"}


def test_images_beside_the_labels_need_no_name(files, capsys):
    (files / "photos" / "truth.json").write_text(json.dumps(TRUTH))
    told, _ = show(capsys, "--labels", "photos/truth.json")
    assert "3 pictures" in told


def test_coco_results_find_their_images_by_the_labels(files, capsys):
    with pytest.raises(SystemExit):
        main(["data", "convert", "truth.json", "coco.json", "--to", "coco",
              "--images", "photos"])  # fmt: skip
    capsys.readouterr()
    labels = json.loads((files / "coco.json").read_text())
    number = {image["file_name"]: image["id"] for image in labels["images"]}
    classes = {category["name"]: category["id"] for category in labels["categories"]}
    rows = [
        {"image_id": number[name], "category_id": classes[str(label)], "bbox": box, "score": score}
        for name, boxes in RUN.items()
        for label, *box, score in boxes
    ]
    (files / "run.json").write_text(json.dumps(rows))
    assert "a run of COCO's numbers needs --labels" in refused(capsys, "photos")
    told, _ = show(capsys, "photos", "--labels", "coco.json")
    assert "2 right, 1 wrong, 1 missed in 3 images" in told


def test_a_broken_image_is_told_and_the_others_are_drawn(files, capsys):
    (files / "photos/a.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    told, error = show(capsys, "photos", "--labels", "truth.json", status=1)
    assert "left out 'a.png': image " in error
    assert "2 pictures, 1 crops" in told
    assert [row["picture"] for row in index()] == ["", "", "", "images/sub/b10.png.jpg"]


def test_thresholds_come_from_a_recipe(files, capsys):
    from smallobj.boxes import Classes
    from smallobj.ensemble import FusionConfig, Recipe, write_recipe
    from smallobj.ensemble.operating_point import choose_thresholds
    from smallobj.formats import align_runs, read_labels, read_runs

    truth = read_labels(files / "truth.json").table
    runs = read_runs([files / "run.json"])
    (table,) = align_runs(runs, images=truth.images, classes=truth.classes).tables
    assert truth.classes == Classes.of(["0", "1"])
    point = choose_thresholds(truth, table, goal="precision=1")
    recipe = Recipe(models=("run",), config=FusionConfig(weights=(1.0,)), operating_point=point)
    write_recipe(files / "recipe.toml", recipe)
    told, _ = show(capsys, "photos", "--labels", "truth.json", "--recipe", "recipe.toml")
    assert "1 right, 0 wrong, 2 missed in 3 images; score thresholds of recipe.toml" in told


def test_what_cannot_be_shown_is_refused_in_one_line(files, capsys):
    labelled = ("photos", "--labels", "truth.json")
    assert "needs --labels" in refused(capsys, "photos", "--only", "wrong")
    assert "known: right, wrong, missed" in refused(capsys, *labelled, "--only", "good")
    assert "field iou: must lie in 0 to 1" in refused(capsys, *labelled, "--iou", "nan")
    assert "min_score" in refused(capsys, *labelled, "--min-score", "1.5")
    exclusive = ("--min-score", "0.5", "--recipe", "r.toml")
    assert "exclude each other" in refused(capsys, *labelled, *exclusive)
    assert "r.toml" in refused(capsys, *labelled, "--recipe", "r.toml")
    assert "must be one of jpg, png" in refused(capsys, *labelled, "--picture", "gif")
    assert "is no font" in refused(capsys, *labelled, "--font", "truth.json")
    assert "no images given" in refused(capsys)
    assert "no such folder" in refused(capsys, "nowhere")
    assert "no such file" in refused(capsys, "photos", "--labels", "none.json")
    assert "no image has a box to show" in refused(capsys, *labelled, "--only", "wrong", "--iou",
                                                   "0.9", "--min-score", "0.9")  # fmt: skip
    (files / "other").mkdir()
    Image.new("RGB", (9, 9)).save(files / "other/z.png")
    assert "none of these 1 images is named" in refused(capsys, "other")


def test_pictures_are_kept_apart_from_the_photographs(files, capsys):
    with pytest.raises(SystemExit) as end:
        main(["show", "run.json", "photos", "--out", "photos/shown"])
    assert end.value.code == 2
    assert "lies inside the folder of the images" in capsys.readouterr().err
    (files / "shown").mkdir()
    (files / "shown/letter.txt").write_text("mine")
    assert "is not empty" in show(capsys, "photos", status=2)[1]
    assert "did not write" in show(capsys, "photos", "--overwrite", status=2)[1]
    assert (files / "shown/letter.txt").read_text() == "mine"


def test_the_page_names_every_column_and_stroke():
    from smallobj.report.show import INDEX_COLUMNS
    from smallobj.report.strokes import STYLES

    page = (Path(__file__).parents[2] / "docs" / "show.md").read_text()
    table = page[page.index("| column | meaning |") :]
    named = [cell for line in table.splitlines()[2:] for cell in line.split("|")[1:2]]
    columns = [name.strip() for cell in named for name in cell.split(",")]
    assert tuple(columns) == INDEX_COLUMNS
    for kind, style in STYLES.items():
        assert any(
            line.startswith(f"| {kind}:") and f"| {style.stroke} |" in line
            for line in page.splitlines()
        )


def run_of_kind(files: Path, kind: str) -> Path:
    """RUN, written in another format."""
    from smallobj.formats import RunInfo, in_pixels, read_labels, read_run, write_run

    labels = read_labels(files / "truth.json", images=files / "photos")
    run = in_pixels(read_run(files / "run.json", labels=labels), sized=labels.table.images)
    ending = {"yolo": "", "parquet": ".parquet", "openimages": ".csv"}.get(kind, ".json")
    path = files / f"of-{kind}{ending}"
    info = RunInfo(model="m", classes=run.table.classes)
    write_run(path, run.table, info, kind=kind, labels=labels)
    return path


@pytest.mark.parametrize("kind", ["challenge", "openimages", "parquet", "yolo"])
@pytest.mark.parametrize("labelled", [True, False])
def test_runs_of_every_kind_are_shown(files, capsys, kind: str, labelled: bool):
    path = run_of_kind(files, kind)
    arguments = ["--labels", "truth.json"] if labelled else []
    with pytest.raises(SystemExit) as end:
        main(["show", path.name, "photos", "--min-score", "0.3", *arguments, "--out", "shown"])
    output = capsys.readouterr()
    assert end.value.code == 0, output.err
    counts = "2 right, 1 wrong, 1 missed" if labelled else "3 detected"
    assert counts in output.out
    places = [[float(row[c]) for c in ("x1", "y1", "x2", "y2")] for row in index()]
    assert places[0] == pytest.approx([10, 10, 30, 30], abs=1e-3)
