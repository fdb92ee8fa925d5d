"""Whatever is wrong with what a user gives: one line that says it, status 2, nothing written."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from smallobj.cli.main import main
from smallobj.detectors import list_detectors

Refused = Callable[..., str]

TRUTH = {"a.jpg": [[0, 10, 10, 20, 20]], "b.jpg": [[1, 5, 5, 12, 12]]}
RUN = {"a.jpg": [[0, 10, 10, 20, 20, 0.9]], "b.jpg": [[1, 5, 5, 12, 12, 0.5]]}
NAMED = 'model = "m"\nclasses = {names = ["car", "bus"], ids = [0, 1]}\n'
RESULT = '{"image_id": 3, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}'

WITH_RUNS = {  # every command that reads runs, and what it would write
    "fuse": ("fuse", "good.json", "{}", "--out", "out/fused.json"),
    "fuse backwards": ("fuse", "{}", "good.json", "--out", "out/fused.json"),
    "evaluate": ("evaluate", "{}", "--labels", "truth.json", "--json", "out/scores.json"),
    "tune": ("tune", "good.json", "{}", "--labels", "truth.json", "--out", "out/recipe.toml"),
    "convert": ("data", "convert", "{}", "out/run.json", "--to", "challenge"),
}
BAD_RUNS = {
    "not JSON": ("boxes: none", "bad.json: is not JSON"),
    "cut off": ('{"a.jpg": [[0, 1, 1, 5, 5, 0.5]', "bad.json: is not JSON"),
    "empty": ("", "bad.json: is empty"),
    "blank": (" \n", "bad.json: is empty"),
    "text": ('"run"', "bad.json: has to be an object of images with lists of boxes, got"),
    "a list of numbers": ("[1, 2]", "bad.json: item [0]: COCO results are objects"),
    "a list of rows": ("[[0, 1, 1, 5, 5, 0.5]]", "bad.json: item [0]: COCO results are objects"),
    "an empty list": ("[]", "bad.json: holds no predictions"),
    "five values": (
        '{"b.jpg": [[0, 1, 1, 5, 5, 0.5]], "a.jpg": [[0, 1, 1, 5, 5]]}',
        "bad.json: item a.jpg: field box 0: a box has 6 values (class, x, y, w, h, score),"
        " got 5 values: [0, 1, 1, 5, 5]",
    ),
    "seven values": (
        '{"a.jpg": [[0, 1, 1, 5, 5, 0.5], [0, 1, 1, 5, 5, 0.5, 1]]}',
        "bad.json: item a.jpg: field box 1: a box has 6 values",
    ),
    "NaN": (
        '{"a.jpg": [[0, 1, NaN, 5, 5, 0.5]]}',
        "bad.json: item a.jpg: field box 0 y: is not a finite number, got nan",
    ),
    "1e999": (
        '{"a.jpg": [[0, 1, 1, 1e999, 5, 0.5]]}',
        "bad.json: item a.jpg: field box 0 w: is not a finite number, got inf",
    ),
    "missing": (
        '{"a.jpg": [[0, 1, 1, null, 5, 0.5]]}',
        "bad.json: item a.jpg: field box 0 w: value is missing, got null",
    ),
    "1e300": (
        '{"a.jpg": [[0, 1, 1, 1e300, 5, 0.5]]}',
        "bad.json: item a.jpg: field box 0 w: is beyond 1e+09, got 1e+300",
    ),
    "score": (
        '{"a.jpg": [[0, 1, 1, 5, 5, 5]]}',
        "bad.json: item a.jpg: field box 0 score: score is outside 0 to 1, got 5",
    ),
    "class text": (
        '{"a.jpg": [["car", 1, 1, 5, 5, 0.5]]}',
        "bad.json: item a.jpg: field box 0 class: is not a number, got car",
    ),
    "class a half": (
        '{"a.jpg": [[0.5, 1, 1, 5, 5, 0.5]]}',
        "bad.json: item a.jpg: field box 0 class: class is not a whole number, got 0.5",
    ),
    "image twice": (
        '{"a.jpg": [[0, 1, 1, 5, 5, 0.5]], "a.jpg": []}',
        "bad.json: item a.jpg: image stands twice",
    ),
    "result score": (
        "[" + RESULT.replace("0.5", "5") + "]",
        "bad.json: item [0]: field score: score is outside 0 to 1, got 5",
    ),
    "result NaN": (
        f"[{RESULT}, " + RESULT.replace("[1,", "[NaN,") + "]",
        "bad.json: item [1]: field bbox[0]: is not a finite number, got nan",
    ),
    "result 1e999": (
        "[" + RESULT.replace("0.5", "1e999") + "]",
        "bad.json: item [0]: field score: is not a finite number, got inf",
    ),
    "result class": (
        "[" + RESULT.replace('"category_id": 1', '"category_id": "car"') + "]",
        "bad.json: item [0]: field category_id: Expected `int`, got `str`, got car",
    ),
    "result 1e300": (
        "[" + RESULT.replace("[1,", "[1e300,") + "]",
        "bad.json: item [0]: field bbox: is beyond 1e+09, got [1e+300, 2.0, 3.0, 4.0]",
    ),
    "half a character": (
        '{"a\\ud800.jpg": [[0, 1, 1, 5, 5, 0.5]]}',
        r"bad.json: item a\ud800.jpg: image name is not Unicode text",
    ),
    "result values": (
        "[" + RESULT.replace("[1,", "[0, 1,") + "]",
        "bad.json: item [0]: field bbox: has to be 4 numbers, got [0, 1, 2, 3, 4]",
    ),
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: labels, a run of them, a YOLO set of two photographs."""
    monkeypatch.chdir(tmp_path)
    Path("truth.json").write_text(json.dumps(TRUTH))
    Path("good.json").write_text(json.dumps(RUN))
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in "ab":
        Image.new("RGB", (64, 48)).save(photos / f"{name}.jpg")
        (photos / f"{name}.txt").write_text("0 .5 .5 .25 .25\n")
    return tmp_path


@pytest.fixture
def refused(here: Path, capfd: pytest.CaptureFixture[str]) -> Refused:
    """Run a command that has to be refused; its one line, once nothing but that is left of it."""

    def run(*arguments: object) -> str:
        before = {path: path.stat().st_mtime_ns for path in here.rglob("*")}
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        printed, told = capfd.readouterr()
        assert end.value.code == 2, told
        assert printed == ""
        assert told.startswith("error: ")
        assert told.count("\n") == 1
        assert told.endswith("\n")
        assert {path: path.stat().st_mtime_ns for path in here.rglob("*")} == before
        return told.removeprefix("error: ").rstrip("\n")

    return run


@pytest.mark.parametrize("command", WITH_RUNS)
@pytest.mark.parametrize("fault", BAD_RUNS)
def test_a_faulty_run(fault: str, command: str, refused: Refused) -> None:
    content, said = BAD_RUNS[fault]
    Path("bad.json").write_text(content)
    assert refused(*(part.format("bad.json") for part in WITH_RUNS[command])).startswith(said)


@pytest.mark.parametrize("command", WITH_RUNS)
def test_a_run_that_is_not_there(command: str, refused: Refused) -> None:
    said = refused(*(part.format("none.json") for part in WITH_RUNS[command]))
    assert said.startswith("none.json: no such file")


@pytest.mark.parametrize("command", WITH_RUNS)
def test_a_class_outside_the_names(command: str, refused: Refused) -> None:
    Path("bad.json").write_text('{"a.jpg": [[0, 1, 1, 5, 5, 0.5], [7, 1, 1, 5, 5, 0.5]]}')
    Path("bad.run.toml").write_text(NAMED)
    said = refused(*(part.format("bad.json") for part in WITH_RUNS[command]))
    place = "bad.json: item a.jpg: field box 1 class"
    assert said == f"{place}: unknown class; known are 0 to 1, got 7"


@pytest.mark.parametrize("command", ["evaluate", "tune"])
def test_a_class_outside_the_labels(command: str, refused: Refused) -> None:
    Path("bad.json").write_text('{"a.jpg": [[0, 1, 1, 5, 5, 0.5], [7, 1, 1, 5, 5, 0.5]]}')
    said = refused(*(part.format("bad.json") for part in WITH_RUNS[command]))
    assert said.startswith("bad.json: item a.jpg: field class: class is outside the known ones")
    assert said.endswith(", got 7")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "bad.json: is empty"),
        ("boxes: none", "bad.json: is not JSON"),
        ("[1, 2]", "bad.json: is a list; labels are an object"),
        (
            '{"a.jpg": [[0, 1, 1, 5, 5, 0.5]]}',
            "bad.json: item a.jpg: field box 0: a box has 5 values (class, x, y, w, h),"
            " got 6 values: [0, 1, 1, 5, 5, 0.5]",
        ),
        (
            '{"a.jpg": [[0, 1, 1, NaN, 5]]}',
            "bad.json: item a.jpg: field box 0 w: is not a finite number, got nan",
        ),
        ('{"a.jpg": []}', "bad.json: holds no boxes to find"),
    ],
    ids=["empty", "not JSON", "a list", "a run", "NaN", "no boxes"],
)
@pytest.mark.parametrize("command", ["evaluate", "tune"])
def test_faulty_labels(command: str, content: str, said: str, refused: Refused) -> None:
    Path("bad.json").write_text(content)
    Path("car.json").write_text('{"a.jpg": [[0, 1, 1, 5, 5, 0.5]]}')
    written = {"evaluate": "--json", "tune": "--out"}[command]
    options = ("car.json", "--labels", "bad.json", written, "out/file")
    assert refused(command, *options).startswith(said)


def test_a_part_of_one_file_of_labels(refused: Refused) -> None:
    command = ("evaluate", "good.json", "--labels", "truth.json")
    said = refused(*command, "--split", "val")
    assert said.startswith("truth.json: field split: one file has no parts of its own")
    assert said.endswith("got val")


@pytest.mark.parametrize("command", ["fuse", "evaluate", "tune"])
def test_no_runs(command: str, refused: Refused) -> None:
    options = [part for part in WITH_RUNS[command] if not part.endswith(("good.json", "{}"))]
    assert refused(*options) == "no runs given"


@pytest.mark.parametrize("command", ["evaluate", "tune"])
def test_labels_of_another_data_set(command: str, refused: Refused) -> None:
    Path("other.json").write_text('{"x.jpg": [[0, 1, 1, 5, 5, 0.5]]}')
    said = refused(*(part.format("other.json") for part in WITH_RUNS[command]))
    assert said.startswith("other.json: item x.jpg: has no image in common with the labels")
    assert "the labels have a.jpg" in said


def test_runs_of_another_data_set(refused: Refused) -> None:
    Path("other.json").write_text('{"x.jpg": [[0, 1, 1, 5, 5, 0.5]]}')
    said = refused("fuse", "good.json", "other.json", "--out", "out/fused.json")
    assert said.startswith("other.json: item x.jpg: has no image in common with good.json")


@pytest.mark.parametrize("command", ["fuse", "fuse backwards", "evaluate", "tune"])
def test_the_same_name_in_two_folders(command: str, refused: Refused) -> None:
    Path("bad.json").write_text('{"x/a.jpg": [], "y/a.jpg": [[0, 1, 1, 5, 5, 0.5]]}')
    said = refused(*(part.format("bad.json") for part in WITH_RUNS[command]))
    assert "bad.json" in said
    assert "item a.jpg: the same name stands in several folders" in said
    assert "x/a.jpg, y/a.jpg" in said


def test_the_same_name_in_two_folders_of_images(here: Path, refused: Refused) -> None:
    for name in ("x", "y"):
        (here / "two" / name).mkdir(parents=True)
        Image.new("RGB", (64, 48)).save(here / "two" / name / "a.jpg")
    train = ("train", "--arch", "centernet", "--out", "out/net")
    said = refused(*train, "--data", "truth.json", "--images", "two")
    assert "item a.jpg: the same name stands in several folders" in said
    assert "x/a.jpg, y/a.jpg" in said


def test_a_folder_without_images(here: Path, refused: Refused) -> None:
    (here / "bare").mkdir()
    (here / "bare" / "notes.md").write_text("nothing here")
    said = refused("predict", "net", "bare", "--out", "out/run.json")
    assert said.startswith("bare: no images in this folder")
    train = ("train", "--arch", "centernet", "--out", "out/net")
    assert refused(*train, "--data", "bare").startswith(f"{here / 'bare'}: no labels recognised")
    said = refused(*train, "--data", "truth.json", "--images", "bare")
    assert "bare" in said
    assert "image" in said


def test_labels_whose_images_are_not_there(refused: Refused) -> None:
    Path("labels.json").write_text('{"x.jpg": [[0, 1, 1, 5, 5]]}')
    train = ("train", "--arch", "centernet", "--out", "out/net", "--images", "photos")
    said = refused(*train, "--data", "labels.json")
    assert "labels.json" in said
    assert "x.jpg" in said


def test_an_unknown_detector(refused: Refused) -> None:
    said = refused("train", "--arch", "mask_rcnn", "--data", "photos", "--out", "out/net")
    assert "got mask_rcnn" in said
    assert all(name in said for name in list_detectors())


def test_weights_for_another_number_of_runs(refused: Refused) -> None:
    said = refused("fuse", "good.json", "--weights", "2,1", "--out", "out/fused.json")
    assert said == "field weights: 2 weights for 1 run, got 2,1"


@pytest.mark.parametrize(
    "arguments",
    [
        ("fuse", "good.json", "--out", "{}"),
        ("tune", "good.json", "--labels", "truth.json", "--out", "{}"),
        ("evaluate", "good.json", "--labels", "truth.json", "--json", "{}"),
        ("data", "convert", "truth.json", "{}", "--to", "coco"),
        ("data", "convert", "truth.json", "{}", "--to", "voc"),
        ("data", "convert", "good.json", "{}", "--to", "challenge"),
        ("data", "check", "photos", "--json", "{}"),
        ("data", "stats", "photos", "--json", "{}"),
        ("data", "stats", "photos", "--picture", "{}"),
        ("predict", "net", "photos", "--out", "{}"),
        ("train", "--arch", "centernet", "--data", "photos", "--out", "{}"),
        ("demo", "{}"),
        ("detectors", "--json", "{}"),
    ],
    ids=lambda arguments: " ".join(arguments[:2]) + " " + arguments[-2],
)
def test_what_cannot_be_written(arguments: tuple[str, ...], refused: Refused) -> None:
    out = "truth.json/out.json"  # below a file
    said = refused(*(part.format(out) for part in arguments))
    assert said.startswith("truth.json/out")
    assert "cannot be written" in said


def test_an_image_that_only_one_run_has_is_no_fault(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("part.json").write_text('{"a.jpg": [[0, 10, 10, 20, 20, 0.8]]}')
    commands = (
        ("fuse", "good.json", "part.json", "--out", "fused.json"),
        ("evaluate", "good.json", "part.json", "--labels", "truth.json", "--bootstrap", "9"),
        (
            *("tune", "good.json", "part.json", "--labels", "truth.json", "--folds", "2"),
            *("--grid", "iou=0.5", "--grid", "skip=0.01", "--out", "recipe.toml"),
        ),
    )
    for command in commands:
        with pytest.raises(SystemExit) as end:
            main(list(command))
        assert end.value.code == 0
        told = capfd.readouterr().err
        assert "note: part.json lacks 1 of 2 images; counted as nothing found\n" in told
    assert list(json.loads(Path("fused.json").read_text())) == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("fuse", "good.json", "--out", "f.json", "--iuo", "0.5"),
        ("fuse", "good.json"),
        ("evaluate", "good.json", "--labels", "truth.json", "--kind", "csv"),
        ("tune", "good.json", "--labels", "truth.json", "--out", "r.toml", "--folds", "many"),
        ("data", "convert", "truth.json", "out.json", "--to", "csv"),
        ("data", "nothing"),
        ("nothing",),
        ("train", "--arch", "centernet", "--steps", "few"),
        ("predict", "net"),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_ends_with_the_same_status(
    arguments: tuple[str, ...], here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = set(here.rglob("*"))
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    assert end.value.code == 2
    assert "Usage: " in capfd.readouterr().err
    assert set(here.rglob("*")) == before
