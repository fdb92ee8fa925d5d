"""`smallobj data` from the shell's side: what it writes, prints and ends with."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from smallobj.cli.main import main
from smallobj.formats import read_labels

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two images, one with two boxes; YOLO."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("1", "[b]2"):
        Image.new("L", (64, 48)).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text("")
    (folder / "1.txt").write_text("0 .5 .5 .25 .5\n1 .25 .25 .25 .25\n")
    (folder / "classes.txt").write_text("[red]car[/red]\nbus\n")
    return folder


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main(["data", *map(str, arguments)])
    return int(end.value.code or 0)


@pytest.mark.parametrize("command", ["convert", "check", "stats"])
def test_help_has_an_example(command: str, capsys: Capture) -> None:
    assert run(command, "--help") == 0
    assert f"Example: smallobj data {command}" in " ".join(capsys.readouterr().out.split())


def test_convert_writes_every_kind(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    whole = read_labels(photos).table
    for kind, name in (("challenge", "c"), ("coco", "c.json"), ("yolo", "y"), ("voc", "v")):
        assert run("convert", photos, tmp_path / name, "--to", kind) == 0
        written = read_labels(tmp_path / name, images=photos)
        assert written.kind == kind
        assert written.table.images == whole.images
        assert written.table.classes.names == whole.classes.names
        assert f"yolo to {kind}: 2 images, 2 boxes" in capsys.readouterr().out
    assert (tmp_path / "y" / "images" / "1.png").is_symlink()


def test_convert_copies_images_on_demand(photos: Path, tmp_path: Path) -> None:
    assert run("convert", photos, tmp_path / "y", "--to", "yolo", "--copy-images") == 0
    copy = tmp_path / "y" / "images" / "1.png"
    assert not copy.is_symlink()
    assert copy.read_bytes() == (photos / "1.png").read_bytes()


def test_convert_tells_what_it_repaired_or_refuses(
    photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    (photos / "1.txt").write_text("0 1 1 .5 .5\n")
    assert run("convert", photos, tmp_path / "c", "--to", "challenge") == 0
    assert "note: 1 box cut at the image border" in capsys.readouterr().err
    assert run("convert", photos, tmp_path / "d", "--to", "challenge", "--strict") == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "item 1.png: field line 1: box sticks out of its image of 64 x 48 px" in message
    assert not (tmp_path / "d").exists()


def test_convert_never_mixes_or_overwrites_folders(
    photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    before = sorted(p.name for p in photos.iterdir())
    assert run("convert", photos, photos, "--to", "yolo") == 2
    assert "over itself" in capsys.readouterr().err
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "old.txt").write_text("")
    assert run("convert", photos, tmp_path / "y", "--to", "yolo") == 2
    assert "exists already" in capsys.readouterr().err
    assert sorted(p.name for p in photos.iterdir()) == before


def test_convert_writes_runs_too(tmp_path: Path, capsys: Capture) -> None:
    run_file, coco, back = (tmp_path / name for name in ("a.json", "coco.json", "back.json"))
    run_file.write_text('{"12.jpg": [[3, 1, 2, 5, 6, 0.5]], "13.jpg": []}')
    images = [{"id": i, "file_name": f"{i}.jpg"} for i in (12, 13)]
    labels = tmp_path / "labels.json"
    content = {"images": images, "annotations": [], "categories": [{"id": 3, "name": "car"}]}
    labels.write_text(json.dumps(content))
    assert run("convert", run_file, coco, "--to", "coco", "--labels", labels) == 0
    told = capsys.readouterr()
    assert told.err.splitlines() == [
        f"note: {run_file} calls classes by number, taken as: 3 car",
        "note: 1 image without boxes does not stand in COCO results",
    ]
    assert told.out == f"run to coco: 2 images, 1 box read, written to {coco}\n"
    result = {"image_id": 12, "category_id": 3, "bbox": [1, 2, 5, 6], "score": 0.5}
    assert json.loads(coco.read_text()) == [result]
    assert run("convert", coco, back, "--to", "challenge", "--labels", labels) == 0
    assert json.loads(back.read_text()) == {"12.jpg": [[3, 1, 2, 5, 6, 0.5]]}
    assert (tmp_path / "back.run.toml").is_file()


def test_convert_tells_runs_from_labels(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    run_file = tmp_path / "a.json"
    run_file.write_text('{"a.jpg": [[3, 1, 2, 5, 6, 0.5]]}')
    for arguments, said in (
        ((run_file, "--to", "voc"), "challenge, coco, openimages, parquet, yolo, got voc"),
        ((run_file, "--to", "yolo"), "size of the image is unknown, which yolo needs"),
        ((run_file, "--to", "openimages"), "size of the image is unknown, which openimages needs"),
        ((run_file, "--to", "challenge", "--split", "val"), "is a run, and --split is for labels"),
        ((run_file, "--to", "coco"), "--labels"),
        ((photos, "--to", "coco", "--labels", run_file), "is no run, and --labels is for runs"),
    ):
        assert run("convert", arguments[0], tmp_path / "out", *arguments[1:]) == 2
        assert said in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))


def test_check_of_good_labels_ends_with_status_0(
    photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert run("check", photos, "--pixels", "--json", tmp_path / "f.json") == 0
    assert capsys.readouterr().out == "yolo: 2 images, 2 boxes; 0 errors, 0 warnings, 0 notices\n"
    assert json.loads((tmp_path / "f.json").read_text())["faults"] == []


def test_check_lists_faults_and_ends_with_status_1(
    photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    (photos / "1.txt").write_text("0 nan .5 .25 .5\n0 .5 .5 .25 .25\n0 .5 .5 .25 .25\n")
    (photos / "[b]2.txt").write_text("7 .5 .5 .25 .25\n")
    assert run("check", photos, "--json", tmp_path / "f.json") == 1
    content = json.loads((tmp_path / "f.json").read_text())
    assert (content["errors"], content["warnings"], content["notices"]) == (2, 2, 0)
    assert content["faults"][0] == {
        "severity": "error",
        "kind": "not a number",
        "reason": "is not a finite number",
        "file": str(photos / "1.txt"),
        "item": "1.png",
        "field": "line 1 cx",
        "value": "nan",
    }
    printed = "".join(capsys.readouterr().out.split())
    assert "[b]2.png" in printed
    assert "2errors,2warnings,0notices" in printed


def test_warnings_alone_end_with_status_0(photos: Path) -> None:
    (photos / "classes.txt").write_text("car\nbus\nvan\n")
    assert run("check", photos) == 0


def test_check_of_what_is_no_data_set_ends_with_status_1(tmp_path: Path, capsys: Capture) -> None:
    assert run("check", tmp_path / "none") == 1
    assert "no such file or folder" in capsys.readouterr().out


def test_stats_print_write_and_draw(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    files = ("--json", tmp_path / "s.json", "--picture", tmp_path / "s.png")
    assert run("stats", photos, *files) == 0
    printed = capsys.readouterr().out
    assert "[red]car[/red]" in printed
    assert "2, 1 without boxes ([b]2.png)" in printed
    assert json.loads((tmp_path / "s.json").read_text())["boxes"] == 2
    with Image.open(tmp_path / "s.png") as image:
        assert image.format == "PNG"


def test_what_cannot_be_written_is_told_before_the_work(photos: Path, capsys: Capture) -> None:
    for command in ("check", "stats"):
        assert run(command, photos, "--json", photos / "1.txt" / "f.json") == 2
        assert "cannot be written" in capsys.readouterr().err


def test_the_way_of_a_new_user(
    real_data: Callable[[str], Path], tmp_path: Path, capsys: Capture
) -> None:
    aerial = real_data("aerial_cars")
    assert run("check", aerial) == 1  # four boxes stick out of their images
    assert run("stats", aerial) == 0
    assert run("convert", aerial, tmp_path / "coco.json", "--to", "coco") == 0
    assert (
        run("convert", tmp_path / "coco.json", tmp_path / "v", "--to", "voc", "--images", aerial)
        == 0
    )
    assert run("check", tmp_path / "v") == 0
    assert "voc: 89 images, 2271 boxes; 0 errors, 1 warning," in capsys.readouterr().out
