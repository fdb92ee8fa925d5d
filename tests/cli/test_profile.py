"""`smallobj profile` from the shell's side: what it prints, writes and refuses."""

import json
from pathlib import Path

import pytest
from PIL import Image

from smallobj.boxes import Classes
from smallobj.cli.main import main
from smallobj.detectors import build_detector, describe
from smallobj.weights.checkpoint import save_weights
from smallobj.weights.manifest import Manifest

QUICK = ("--repeats", "2", "--warm-up", "1", "--device", "cpu", "--precision", "fp32")


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    detector = build_detector(
        "centernet", num_classes=2, mean=(110.0,) * 3, std=(60.0,) * 3, size="tiny"
    )
    manifest = Manifest(
        **describe(detector), id="tiny", classes=Classes.of(["a", "b"]), train_crop_px=64,
        largest_object_px=20.0,
    )  # fmt: skip
    save_weights(tmp_path / "model[bold]", detector.state_dict(), manifest)
    return tmp_path / "model[bold]"


def profile(capsys, *arguments: str, status: int = 0) -> tuple[str, str]:
    with pytest.raises(SystemExit) as end:
        main(["profile", *QUICK, *arguments])
    output = capsys.readouterr()
    assert end.value.code == status, output.err
    return output.out, output.err


def refused(capsys, *arguments: str) -> str:
    out, error = profile(capsys, *arguments, status=2)
    assert out == ""
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def test_a_trained_model_is_measured_and_written(run, tmp_path, capsys):
    sizes = ("--batch", "1,2", "--size", "32,50", "--json", "cost.json")
    told, _ = profile(capsys, run.name, *sizes)
    assert "model[bold]" in told
    written = json.loads((tmp_path / "cost.json").read_text())
    file = (run / "weights.safetensors").stat().st_size
    assert written["stored_bytes"] == written["weight_bytes"]["fp32"] == file
    assert f"{file / 1e6:.2f} MB as stored (float32), within the budget of 100 MB" in told
    asked = [(point["batch"], point["size"]) for point in written["points"]]
    assert asked == [(1, 32), (2, 32), (1, 64), (2, 64)]  # 50 is no multiple of the stride
    assert [point["flops"] for point in written["points"]][1] == 2 * written["points"][0]["flops"]
    assert written["over_budget"] is False


def test_a_file_over_the_budget_ends_with_status_one(run, capsys):
    told, error = profile(capsys, run.name, "--budget-mb", "0.5", status=1)
    assert "over the budget of 0.5 MB; would fit as fp16 or bf16" in told
    assert "MB are over the budget of 0.5 MB" in error
    (row,) = [line.split() for line in told.splitlines() if line.split()[:1] == ["1"]]
    assert row[1] == "64"  # the crops of its training


def test_images_are_timed_from_file_to_boxes(run, tmp_path, capsys):
    for name in "abc":
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.new("RGB", (70, 50)).save(tmp_path / "photos" / f"{name}.png")
    images = ("--images", "photos", "--limit", "2", "--size", "32", "--json", "c.json")
    told, _ = profile(capsys, run.name, *images)
    assert "file to boxes: " in told
    seen = json.loads((tmp_path / "c.json").read_text())["end_to_end"]
    assert (seen["images"], seen["unread"]) == (2, 0)
    assert seen["images_a_second"] > 0


def test_an_untrained_detector_is_measured_by_its_name(capsys):
    told, _ = profile(
        capsys, "--arch", "fcos", "--detector-size", "tiny", "--classes", "3", "--size", "64"
    )
    assert "fcos, tiny, untrained" in told
    told, _ = profile(capsys, "--arch", "yolo", "--size", "64")
    assert "yolo, n, untrained" in told


def test_what_cannot_be_measured_is_refused_in_one_line(run, tmp_path, capsys):
    assert "name either the folder" in refused(capsys)
    assert "name either the folder" in refused(capsys, run.name, "--arch", "fcos")
    assert "cannot be read" in refused(capsys, "nowhere")
    assert "unknown detector; known: " in refused(capsys, "--arch", "none")
    assert "unknown size" in refused(capsys, "--arch", "fcos", "--detector-size", "none")
    assert "whole numbers with commas" in refused(capsys, run.name, "--size", "640x640")
    assert "numbers from 1" in refused(capsys, run.name, "--batch", "0")
    assert "field budget_mb" in refused(capsys, run.name, "--budget-mb", "nan")
    assert "no such device" in refused(capsys, run.name, "--device", "abacus")
    assert "no such folder of images" in refused(capsys, run.name, "--images", "nowhere")
    assert "needs a trained model" in refused(capsys, "--arch", "fcos", "--images", str(tmp_path))
    assert "is a folder" in refused(capsys, run.name, "--json", str(tmp_path))
    (run / "weights.safetensors").write_bytes(b"damaged")
    assert "is damaged" in refused(capsys, run.name, "--json", "cost.json")
    assert not (tmp_path / "cost.json").exists()


def test_the_counts_on_the_page_are_those_printed(capsys):
    page = (Path(__file__).parents[2] / "docs" / "profile.md").read_text()
    sizes = ("--classes", "6", "--batch", "1,4", "--size", "192", "--repeats", "1")
    told, _ = profile(capsys, "--arch", "centernet", *sizes)
    shown = {tuple(line.split()[:8]) for line in page.splitlines()}
    rows = [line.split()[:8] for line in told.splitlines() if line.split()[:1] in (["1"], ["4"])]
    assert len(rows) == 2
    assert {tuple(row) for row in rows} <= shown
    for line in told.splitlines()[:4]:
        assert line in page
