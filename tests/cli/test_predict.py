"""`smallobj predict` from the shell's side: what it writes, prints and refuses."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from smallobj.boxes import Classes
from smallobj.cli.main import main
from smallobj.detectors import build_detector, describe
from smallobj.formats import read_run
from smallobj.weights.checkpoint import save_weights
from smallobj.weights.manifest import Manifest


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    detector = build_detector(
        "centernet", num_classes=2, mean=(128.0,) * 3, std=(70.0,) * 3, size="tiny"
    )
    manifest = Manifest(
        **describe(detector),
        id="tiny",
        classes=Classes.of(["a", "b"], [1, 2]),
        train_crop_px=64,
        largest_object_px=30.0,
    )
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    save_weights(folder, detector.state_dict(), manifest)
    return folder


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos" / "deep"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(3):
        pixels = rng.integers(0, 255, (90 + i, 120, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}[bold].png")
    return tmp_path / "photos"


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["predict", *map(str, arguments)])
    return int(ended.value.code or 0)


def test_a_run_is_written_and_told(model, photos, tmp_path, capsys) -> None:
    out = tmp_path / "runs" / "a.json"
    assert call(model, photos, "--out", out, "--tta", "--tile", "64", "--batch", "4") == 0
    said = capsys.readouterr()
    run = read_run(out)
    assert run.table.images.ids == tuple(f"deep/{i}[bold].png" for i in range(3))
    assert run.info is not None
    assert run.info.views[:2] == ("tile=64:32", "hflip,tile=64:32")
    assert f"{len(run.table)} boxes, 4 views" in said.out
    assert "4 views: tile=64:32; hflip,tile=64:32; vflip,tile=64:32; rot180,tile=64:32" in said.err
    assert sorted(path.name for path in out.parent.iterdir()) == ["a.json", "a.run.toml"]
    ids = {row[0] for rows in json.loads(out.read_text()).values() for row in rows}
    assert ids <= {1, 2}


def test_the_example_views_multiply(model, photos, tmp_path, capsys) -> None:
    out = tmp_path / "a.json"
    spec = "hflip,scale=0.75|1"
    assert call(model, photos, "--out", out, "--views", spec, "--tile", 0) == 0
    told = "4 views: identity; scale=0.75; hflip; hflip,scale=0.75"
    assert told in capsys.readouterr().err


def test_left_out_images_are_told(model, photos, tmp_path, capsys) -> None:
    (photos / "broken[").mkdir()
    (photos / "broken[" / "red].jpg").write_bytes(b"no image")
    out = tmp_path / "a.json"
    assert call(model, photos, "--out", out, "--max-bad", 1) == 0
    assert "left out 'broken[/red].jpg': is no image" in capsys.readouterr().err
    assert (tmp_path / "a.skipped.tsv").exists()
    assert call(model, photos, "--out", out) == 1
    said = capsys.readouterr()
    assert "3 images" in said.out
    assert said.err.splitlines()[-1].startswith("error: 1 image is left out, more than --max-bad 0")
    assert len(read_run(out).table.images.ids) == 3


def test_odd_names_go_through_or_are_listed(model, photos, tmp_path, capsys) -> None:
    """Every byte that a name may hold; what is no UTF-8 or leads out of its folder is listed."""
    content = (photos / "deep" / "0[bold].png").read_bytes()
    long = "\u00e9" * 125 + "x.png"
    names = ["..png", "c..png", "a\nb.png", "a[red]/b[/red].png", " .png", "\u2028.png", long]
    refused = [os.fsdecode(b"a\xff.png"), "c\\..\\d.png"]
    folder = tmp_path / "in"
    folder.mkdir()
    for name in (*names, *refused):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    assert len(os.fsencode(long)) == 255
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("../out.png", content)
        archive.writestr("z[/red]\n.png", content)
    out = tmp_path / "a.json"
    assert call(model, folder, tmp_path / "a.zip", "--out", out, "--max-bad", 3) == 0
    seen = read_run(out).table.images.ids
    hidden = "..png"  # begins with a dot
    told = capsys.readouterr().err
    rows = (tmp_path / "a.skipped.tsv").read_bytes().decode().splitlines()
    assert sorted(i.removeprefix("in/") for i in seen) == sorted(
        {*names, "z[/red]\n.png"} - {hidden}
    )
    assert len(rows) - 1 == told.count("left out '") == 3
    assert "a\\xff.png" in told
    assert "out.png" in told
    assert not (tmp_path / "out.png").exists()


def test_where_all_are_left_out_no_run_is_written(model, photos, tmp_path, capsys) -> None:
    out = tmp_path / "a.json"
    assert call(model, photos, "--out", out, "--max-megapixels", "0.001") == 1
    said = capsys.readouterr().err
    assert "larger than 0.001 megapixels, got 120 x 90" in said
    assert "3 images are left out, more than --max-bad 0" in said
    assert "no run is written" in said
    assert not out.exists()


def test_patterns_archives_and_standard_input_are_inputs(model, photos, tmp_path) -> None:
    """The same three images however they are named; a name may hold any bytes."""
    deep = photos / "deep"
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in sorted(deep.iterdir()):
            archive.write(path, path.name)
    command = [sys.executable, "-c", "from smallobj.cli.main import main; main()", "predict"]
    piped = subprocess.run(
        [*command, str(model), "-", "--out", str(tmp_path / "piped.json")],
        input="".join(f"{path.name}\n" for path in deep.iterdir()).encode(),
        cwd=deep,
        check=True,
        capture_output=True,
    )
    assert b"3 images" in piped.stdout
    for name, source in (("glob", f"{deep}/*.png"), ("zip", tmp_path / "a.zip")):
        assert call(model, source, "--out", tmp_path / f"{name}.json") == 0
    expected = (tmp_path / "piped.json").read_bytes()
    assert (tmp_path / "glob.json").read_bytes() == expected
    assert (tmp_path / "zip.json").read_bytes() == expected


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--views", "mirror"], "unknown view; known: identity, hflip"),
        (["--views", ""], "unknown view"),
        (["--views", "hflip", "--tta"], "exclude each other"),
        (["--tile", "64", "--overlap", "64"], "between 0 and"),
        (["--tile", "0", "--views", "whole"], "whole needs tiles"),
        (["--device", "warp"], "no such device"),
        (["--precision", "fp8"], "must be one of auto, fp32, bf16, fp16"),
        (["--batch", "0"], "at least 1"),
        (["--split", "val", "more"], "a part of one data set"),
    ],
)
def test_what_cannot_be_is_one_line_and_status_2(model, photos, capsys, arguments, reason) -> None:
    tmp_path = photos.parent
    assert call(model, photos, "--out", tmp_path / "runs" / "a.json", *arguments) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert reason in line
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())


def test_wrong_places_are_one_line_and_status_2(model, photos, tmp_path, capsys) -> None:
    (tmp_path / "empty").mkdir()
    for run, images, out, reason in (
        (photos, photos, tmp_path / "a.json", "manifest.toml"),
        (model, tmp_path / "empty", tmp_path / "a.json", "no images in this folder"),
        (model, tmp_path / "none", tmp_path / "a.json", "no such folder"),
        (model, photos, tmp_path / "a.txt", "ends in .json"),
        (model, photos, model / "manifest.toml" / "a.json", "cannot be written"),
    ):
        assert call(run, images, "--out", out) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert reason in line


def test_ctrl_c_keeps_what_was_found(model, tmp_path) -> None:
    """Interrupted in mid-run it says so, ends with 130 and leaves the part file alone."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (200, 200, 3), dtype=np.uint8)).save(folder / "0.png")
    for i in range(1, 400):
        os.link(folder / "0.png", folder / f"{i}.png")
    out = tmp_path / "runs" / "a.json"
    command = [sys.executable, "-c", "from smallobj.cli.main import main; main()", "predict"]
    command += [str(model), str(folder), "--out", str(out), "--batch", "1", "--views", "d4"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    part = out.with_name("a.part.jsonl")
    deadline = time.monotonic() + 60
    while not (part.exists() and part.read_bytes().count(b"\n") > 3):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "of 400 images: the same command goes on from there" in said
    assert "Traceback" not in said
    assert [path.name for path in out.parent.iterdir()] == ["a.part.jsonl"]
