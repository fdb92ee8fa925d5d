"""`smallobj train` and `weights average`: what cannot be trained on, and how runs end."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from smallobj.cli.main import main
from smallobj.detectors.centernet import CenterNet

Boxes = list[list[float]]


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments)])
    return int(ended.value.code or 0)


def make(folder: Path, images: dict[str, Boxes], part: str = "") -> Path:
    """Photographs of 64 x 64 px with bright boxes of class 1, and labels in the challenge's form.

    part: of a data set in several.
    """
    place = folder / f"{part}/{part}_data" if part else folder / "images"
    labels = folder / f"{part}/{part}_label" if part else folder / "labels.json"
    place.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, boxes in images.items():
        pixels = rng.integers(0, 60, (64, 64, 3), dtype=np.uint8)
        for _, x, y, w, h in boxes:
            pixels[int(y) : int(y + h), int(x) : int(x + w)] = 250
        Image.fromarray(pixels).save(place / name)
    labels.write_text(json.dumps(images))
    return folder


def quick(data: Path, out: Path, *more: object) -> tuple[object, ...]:
    return (
        *("train", "--arch", "centernet", "--size", "tiny", "--data", data, "--out", out),
        *("--crop", 64, "--batch", 2, "--threads", 1, "--device", "cpu", *more),
    )


def boxed(count: int, boxes: int = 1) -> dict[str, Boxes]:
    return {
        f"{i}.png": [[1, 4.0 + 20 * b, 4 + i, 16, 16] for b in range(boxes)] for i in range(count)
    }


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.splitlines()[-1]


def test_no_box_at_all_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make(tmp_path / "data", {f"{i}.png": [] for i in range(6)})
    names = tmp_path / "names.txt"
    names.write_text("nut\nbolt\n")
    out = tmp_path / "runs" / "a"
    assert call(*quick(data, out, "--steps", 2, "--names", names)) == 2
    assert "training images have no box at all" in last_line(capsys)
    assert not out.exists()


def test_a_class_without_boxes_is_told_and_trained_around(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, names = make(tmp_path / "data", boxed(6)), tmp_path / "names.txt"
    names.write_text("nut\nbolt\n")
    out = tmp_path / "a"
    assert call(*quick(data, out, "--steps", 2, "--folds", 3, "--names", names)) == 0
    assert "no training box of class nut" in capsys.readouterr().err
    assert tomllib.loads((out / "manifest.toml").read_text())["classes"]["names"] == ["nut", "bolt"]


def test_one_image_cannot_be_dealt_into_folds_and_can_be_trained_on_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = make(tmp_path / "data", boxed(1, boxes=3)), tmp_path / "runs" / "a"
    assert call(*quick(data, out, "--steps", 2)) == 2
    told = last_line(capsys)
    assert "1 image is too few to hold one of 5 folds out" in told
    assert "--val " in told
    assert "--fold none " in told
    assert not out.exists()
    assert call(*quick(data, out, "--steps", 2, "--fold", "none")) == 0
    printed, told = capsys.readouterr()
    assert "nothing was held out: there are no scores, and no run is written" in printed
    assert f"{out}: last weights at step 2 of 2" in printed
    assert [p.name for p in out.parent.iterdir()] == ["a"]
    assert tomllib.loads((out / "manifest.toml").read_text())["scores"] == {}
    assert call("train", "--resume", "--out", out, "--fold", "none") == 0
    assert "is finished already" in capsys.readouterr().err
    found = tmp_path / "found.json"
    assert call("predict", out, data / "images", "--device", "cpu", "--out", found) == 0
    assert list(json.loads(found.read_text())) == ["0.png"]


def test_parts_of_one_image_each_are_trained_on_and_validated_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("train", "val"):
        make(tmp_path / "data", boxed(1, boxes=2), part)
    out = tmp_path / "a"
    assert call(*quick(tmp_path / "data", out, "--steps", 2)) == 0
    assert "1 images, 2 boxes, 1 images held out" in capsys.readouterr().err
    assert list(json.loads(out.with_suffix(".json").read_text())) == ["0.png"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--fold", "none", "--folds", 3), "field folds: with --fold none nothing is held out"),
        (("--fold", "none", "--val", "DATA"), "field val: with --fold none nothing is held out"),
        (("--fold", "none", "--val-split", "x"), "field val_split: with --fold none nothing"),
        (("--fold", "none", "--patience", 2), "field patience: with --fold none nothing"),
        (("--fold", "all"), "field fold: must be a number from 0, or none, got all"),
        (("--subset", 0), "field subset: must lie in 1e-06 to 1, got 0"),
        (("--subset", 1.5), "field subset: must lie in 1e-06 to 1, got 1.5"),
        (("--patience", 0), "field patience: must lie in 1 to"),
        (("--folds", 7), "6 images are too few to hold one of 7 folds out"),
    ],
)
def test_what_does_not_go_together_is_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[object, ...],
    told: str,
) -> None:
    data, out = make(tmp_path / "data", boxed(6)), tmp_path / "runs" / "a"
    given = [data if argument == "DATA" else argument for argument in arguments]
    assert call(*quick(data, out, *given)) == 2
    assert told in last_line(capsys)
    assert not out.exists()


def test_bad_images_are_listed_and_up_to_so_many_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = make(tmp_path / "data", boxed(8)), tmp_path / "runs" / "a"
    file = data / "images" / "3.png"
    file.write_bytes(file.read_bytes()[:-100])
    assert call(*quick(data, out, "--steps", 2)) == 2
    told = last_line(capsys)
    assert told.startswith(f"error: {out / 'skipped.tsv'}: 1 of 8 images cannot be read: 3.png (")
    assert (out / "skipped.tsv").read_text().splitlines()[1].startswith("3.png\timage is truncated")
    given = ("--steps", 2, "--max-bad", 1, "--folds", 4, "--subset", 0.5)
    assert call(*quick(data, out, *given)) == 0
    told = capsys.readouterr().err
    assert "trains on 3 of 6 images" in told
    assert (out / "skipped.tsv").exists() == ("left out, listed in" in told)


def test_a_run_without_patience_left_ends_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from smallobj.training.validation import Validation

    data, out = make(tmp_path / "data", boxed(6)), tmp_path / "a"
    monkeypatch.setattr(Validation, "scores", lambda *_: {"map50": 0.5})
    given = ("--steps", 9, "--validate-every", 1, "--patience", 2)
    assert call(*quick(data, out, *given)) == 0
    printed = capsys.readouterr().out
    assert "map50 0.5000 at step 1 of 3" in printed
    ended = "ended early: 2 validations in a row without a better map50"
    assert printed.splitlines()[-1] == ended
    assert call("train", "--resume", "--out", out) == 0
    assert capsys.readouterr().out.splitlines()[-1] == ended


def test_too_large_a_step_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(CenterNet, "losses", full)
    data, out = make(tmp_path / "data", boxed(6)), tmp_path / "runs" / "a"
    assert call(*quick(data, out, "--steps", 2)) == 2
    told = last_line(capsys)
    assert told.startswith("error: memory of cpu does not suffice for step 1: ")
    assert "--batch than 2" in told
    assert "--crop than 64" in told
    assert list(out.parent.iterdir()) == []


def test_checkpoints_are_averaged_and_predicted_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out, mean = make(tmp_path / "data", boxed(6)), tmp_path / "a", tmp_path / "mean"
    given = ("--steps", 4, "--validate-every", 1, "--keep-last", 2)
    assert call(*quick(data, out, *given)) == 0
    runs = sorted((out / "checkpoints").iterdir())
    assert [run.name for run in runs] == ["3", "4"]
    capsys.readouterr()
    average = ("weights", "average", *runs, "--out", mean, "--device", "cpu", "--batches", 2)
    assert call(*average) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{mean}: mean of 2 models, statistics of ")
    assert "batch norms taken from 4 training crops" in printed
    found = tmp_path / "found.json"
    assert call("predict", mean, data / "images", "--device", "cpu", "--out", found) == 0
    assert len(json.loads(found.read_text())) == 6
    assert tomllib.loads((mean / "manifest.toml").read_text())["id"] == "mean"
    assert call(*average) == 2
    assert "holds a trained model already" in last_line(capsys)
    assert call(*average, "--overwrite", "--data", data) == 0
    other = tmp_path / "other"
    assert call(*quick(data, other, "--steps", 1, "--norm", "group")) == 0
    capsys.readouterr()
    assert call("weights", "average", out, other, "--out", tmp_path / "no") == 2
    assert "other: field config.norm: differs from " in last_line(capsys)
    assert not (tmp_path / "no").exists()
