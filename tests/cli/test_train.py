"""`smallobj train`: what it prints, its status, and what it leaves."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smallobj.cli.main import main


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three squares in each of eight photographs, in YOLO's layout without parts of its own."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for i in range(8):
        pixels = rng.integers(0, 60, (80, 80, 3), dtype=np.uint8)
        rows = []
        for x in (4, 30, 56):
            y = int(rng.integers(0, 60))
            pixels[y : y + 16, x : x + 16] = 250
            rows.append(f"0 {(x + 8) / 80} {(y + 8) / 80} 0.2 0.2")
        Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
        (folder / "labels" / f"{i}.txt").write_text("\n".join(rows))
    (folder / "data.yaml").write_text("path: .\ntrain: images\nnames: [square]\n")
    return folder


def status(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["train", *map(str, arguments)])
    return int(ended.value.code or 0)


def quick(photos: Path, out: Path) -> tuple[object, ...]:
    return (
        *("--arch", "centernet", "--size", "tiny", "--data", photos, "--out", out),
        *("--crop", 64, "--batch", 2, "--threads", 1, "--device", "cpu"),
    )


def test_a_run_is_trained_refused_and_resumed(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs" / "a"
    assert status(*quick(photos, out), "--steps", 4, "--folds", 4, "--fold", 1) == 0
    printed, told = capsys.readouterr()
    assert "map50 " in printed
    assert str(out.with_suffix(".json")) in printed
    assert "validates on fold 1 of 4: 2 of 8 images" in told
    assert sorted(p.name for p in out.parent.iterdir()) == ["a", "a.json", "a.run.toml"]
    assert sorted(p.name for p in out.iterdir()) == [
        "config.toml",
        "log.jsonl",
        "manifest.toml",
        "resume",
        "weights.safetensors",
    ]
    assert status(*quick(photos, out)) == 2
    assert "holds a trained model already" in capsys.readouterr().err
    assert status("--out", out, "--resume") == 0
    assert "finished already" in capsys.readouterr().err
    assert status("--out", out, "--resume", "--batch", 3) == 2
    assert "field batch: cannot change" in capsys.readouterr().err


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from smallobj.training import PlainReporter

    monkeypatch.setattr(
        PlainReporter, "step", lambda *_: os.kill(os.getpid(), signal.SIGINT), raising=True
    )
    out = tmp_path / "a"
    assert status(*quick(photos, out), "--steps", 50) == 130
    assert f"smallobj train --resume --out {out}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--arch", "yolo"), "unknown detector; known: centernet"),
        (("--data", "nowhere"), "no such file or folder"),
        (("--metric", "f1"), "field metric: must be one of map50"),
        (("--time-limit", "soon"), "field time_limit: must be a time"),
        (("--steps", 3, "--epochs", 2), "field epochs: give one of steps and epochs"),
        (("--backbone", "resnot"), "resnot"),
        (("--device", "cuda:77"), "field device: no such device here"),
        (("--kind", "csv"), "unknown kind of labels"),
        (("--folds", 99), "fold"),
        (("--resume", "--overwrite"), "exclude each other"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[object, ...],
    told: str,
) -> None:
    out = tmp_path / "runs" / "a"
    assert status(*quick(photos, out), *arguments) == 2
    printed, error = capsys.readouterr()
    assert told in error.splitlines()[-1]
    assert error.splitlines()[-1].startswith("error: ")
    assert printed == ""
    assert not out.parent.exists()


def test_help_gives_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("--help") == 0
    assert "Example: smallobj train" in capsys.readouterr().out
