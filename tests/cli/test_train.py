"""`smallobj train`: what it prints, its status, and what it leaves."""

import os
import signal
import tomllib
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


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments)])
    return int(ended.value.code or 0)


def status(*arguments: object) -> int:
    return call("train", *arguments)


def quick(photos: Path, out: Path) -> tuple[object, ...]:
    return (
        *("--arch", "centernet", "--size", "tiny", "--data", photos, "--out", out),
        *("--crop", 64, "--batch", 2, "--threads", 1, "--device", "cpu"),
    )


def test_the_levers_of_the_samples_reach_the_run(photos: Path, tmp_path: Path) -> None:
    levers = {"mosaic": 0.5, "paste": 0.25, "balance": 1.0, "stages": "0.5:0.4", "plain_end": 0.2}
    options = [x for name, value in levers.items() for x in (f"--{name.replace('_', '-')}", value)]
    assert status(*quick(photos, tmp_path / "a"), *options, "--steps", 5) == 0
    stored = tomllib.loads((tmp_path / "a" / "config.toml").read_text())
    assert {**stored, **stored["crops"]}.items() >= levers.items()


def test_wrong_stages_are_one_line(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(*quick(photos, tmp_path / "a"), "--stages", "0.5:1.5") == 2
    told = capsys.readouterr().err
    assert "field stages: shares must sum to less than 1" in told
    assert len(told.strip().splitlines()) == 1


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


def test_a_model_of_squashed_images_is_trained_predicted_with_and_scored(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, run = tmp_path / "runs" / "a", tmp_path / "runs" / "a-tta.json"
    squash = ("--input", "squash", "--optimizer", "adam", "--momentum", 0.937)
    assert status(*quick(photos, out), *squash, "--steps", 4, "--folds", 4) == 0
    assert "squashed to 64 px, half of the 18 training boxes are below 12.8 px" in (
        capsys.readouterr().err
    )
    stored = tomllib.loads((out / "config.toml").read_text())
    assert (stored["crops"]["input"], stored["momentum"]) == ("squash", 0.937)
    validated = tomllib.loads(out.with_suffix(".run.toml").read_text())
    assert validated["views"] == ["squash=64"]
    predict = ("predict", out, photos, "--tta", "--device", "cpu", "--out", run)
    assert call(*predict) == 0
    assert "4 views: squash=64; hflip,squash=64; vflip,squash=64" in capsys.readouterr().err
    assert call("evaluate", run, "--labels", photos) == 0
    assert "a-tta" in capsys.readouterr().out
    for arguments, told in (
        (("--tile", 320), "field tile: was trained on whole images squashed to 64 px"),
        (("--overlap", 32), "field overlap: was trained on whole images squashed to 64 px"),
        (("--views", "scale=0.5"), "a squashed image has no scale"),
        (("--views", "squash=0"), "squash takes 1 to 8192 pixels, got 0"),
        (("--views", "squash=64,tile=64"), "tile, whole or squash stands in two factors"),
    ):
        other = tmp_path / "b.json"
        assert call("predict", out, photos, "--out", other, *arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        assert told in line
        assert not other.exists()


def test_a_preset_stands_where_no_flag_is_given(
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from smallobj.training import PRESETS, Preset

    preset = Preset(
        settings={"arch": "centernet", "size": "tiny", "batch": 2, "seed": 7},
        crops={"input": "squash", "crop": 64},
    )
    monkeypatch.setitem(PRESETS, "mine", preset)
    out = tmp_path / "a"
    given = (
        "--data",
        photos,
        "--out",
        out,
        "--threads",
        1,
        "--device",
        "cpu",
        "--steps",
        2,
        "--batch",
        3,
    )
    assert status("--preset", "mine", *given) == 0
    stored = tomllib.loads((out / "config.toml").read_text())
    assert [stored[name] for name in ("preset", "arch", "seed", "batch")] == [
        "mine",
        "centernet",
        7,
        3,
    ]
    assert stored["crops"]["crop"] == 64
    assert status("--resume", "--out", out) == 0
    capsys.readouterr()
    assert status("--resume", "--out", out, "--preset", "baseline-300") == 2
    assert "field preset: cannot change" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--arch", "mask_rcnn"), "unknown detector; known: centernet"),
        (("--data", "nowhere"), "no such file or folder"),
        (("--metric", "f1"), "field metric: must be one of map50"),
        (("--time-limit", "soon"), "field time_limit: must be a time"),
        (("--steps", 3, "--epochs", 2), "field epochs: give one of steps and epochs"),
        (("--backbone", "resnot"), "resnot"),
        (("--device", "cuda:77"), "field device: no such device here"),
        (("--kind", "csv"), "unknown kind of labels"),
        (("--folds", 99), "fold"),
        (("--resume", "--overwrite"), "exclude each other"),
        (("--preset", "baseline"), "field preset: unknown preset; known: baseline-300"),
        (("--input", "tiles"), "field input: must be one of crops, squash, got tiles"),
        (("--input", "squash", "--background", 0.5), "field background: is for crops"),
        (("--input", "squash", "--crop", 70), "field crop: must be a multiple of"),
        (("--momentum", 2), "field momentum: must lie in 0 to 0.999999, got 2"),
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


def test_a_second_run_decodes_no_training_image_that_the_first_kept_on_disk(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from smallobj.datasets import cache

    plain, decoded = cache.read_image, []

    def read(path: Path, **options: float) -> object:
        decoded.append(path.name)
        return plain(path, **options)

    monkeypatch.setattr(cache, "read_image", read)
    kept = ("--cache-dir", tmp_path / "cache", "--cache-gb", 0.001, "--cache-mb", 0)
    counts = []
    for name, options in (("a", kept), ("b", kept), ("without", ())):
        decoded.clear()
        out = tmp_path / name
        assert status(*quick(photos, out), *options, "--steps", 20, "--folds", 4) == 0
        counts.append((len(decoded), len(set(decoded))))
        assert "cache" not in capsys.readouterr().err
    assert counts[:2] == [(6, 6), (0, 0)]
    assert counts[2][1] == 6
    weights = {(tmp_path / n / "weights.safetensors").read_bytes() for n in ("a", "b", "without")}
    assert len(weights) == 1
    assert len(list((tmp_path / "cache").rglob("*.pixels"))) == 6


def test_a_limit_without_a_folder_is_one_line(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(*quick(photos, tmp_path / "a"), "--cache-gb", 5) == 2
    told = capsys.readouterr().err
    assert "field cache_gb: is the limit of a folder: give --cache-dir too" in told
    assert len(told.strip().splitlines()) == 1


def test_a_cache_that_cannot_be_written_is_told_once_and_training_goes_on(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    options = ("--cache-dir", tmp_path / "file", "--cache-mb", 0, "--steps", 3)
    assert status(*quick(photos, tmp_path / "a"), *options) == 0
    assert capsys.readouterr().err.count("cannot be written") == 1
