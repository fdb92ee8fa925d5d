"""Every image is looked at before the first step; bad ones are told, left out, or end it there."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from smallobj.boxes import InputError
from smallobj.datasets import ImageCache
from smallobj.training import Interrupted, TrainConfig, image_check, resume, train
from smallobj.training.config import write_config
from smallobj.training.data import load_data
from smallobj.training.folder import RunFolder
from smallobj.training.image_check import ImageCheck


def spoil(photos: Path, *names: str) -> None:
    """Cut these images off in the middle of their pixels: their headers stay good."""
    for name in names:
        part = "val" if name.startswith("val") else "train"
        file = photos / "images" / part / f"{name}.png"
        file.write_bytes(file.read_bytes()[:-200])


def load(
    settings: dict[str, Any], out: Path, listener: Any, *, cache_mb: float = 100
) -> tuple[Any, ImageCheck, ImageCache, Any]:
    config, folder, hear = TrainConfig.from_dict(settings), RunFolder(out), listener()
    cache = ImageCache(cache_mb)
    check = ImageCheck(folder, config, cache, hear, resumed=folder.images.exists())
    return load_data(config, hear.note, leave_out=check), check, cache, hear


def test_more_bad_images_than_allowed_end_the_run_with_a_list(
    tmp_path: Path, quick: dict[str, Any], own_photos: Path
) -> None:
    spoil(own_photos, "train1", "train4", "val2")
    (own_photos / "images" / "train" / "train3.png").write_bytes(b"no image")
    config = TrainConfig.from_dict({**quick, "data": str(own_photos), "max_bad": 3})
    with pytest.raises(InputError, match="4 of 14 images cannot be read: ") as caught:
        train(config, tmp_path / "runs" / "a")
    told = str(caught.value)
    assert told.startswith(str(tmp_path / "runs" / "a" / "skipped.tsv"))
    assert "train1.png (image is truncated or damaged" in told
    assert told.endswith(" and 1 more; --max-bad 3 allows no more")
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["a"]
    assert [p.name for p in (tmp_path / "runs" / "a").iterdir()] == ["skipped.tsv"]
    lines = (tmp_path / "runs" / "a" / "skipped.tsv").read_text().splitlines()
    assert lines[0] == "image\treason"
    assert [Path(line.split("\t")[0]).stem for line in lines[1:]] == [
        "train1",
        "train3",
        "train4",
        "val2",
    ]


def test_bad_images_are_left_out_and_the_labels_of_the_others_stay_theirs(
    tmp_path: Path, quick: dict[str, Any], own_photos: Path, listener: Any
) -> None:
    settings = {**quick, "data": str(own_photos), "max_bad": 2, "folds": 3}
    whole, *_ = load(settings, tmp_path / "a", listener)
    gone = {"train0.png", "val3.png"}
    spoil(own_photos, "train0", "val3")
    data, check, _, hear = load(settings, tmp_path / "a", listener)
    check.keep()
    assert data.left_out == 2
    assert any(
        "2 of 14 images cannot be read" in note and "left out" in note for note in hear.notes
    )
    for before, after in ((whole.train, data.train), (whole.val, data.val)):
        kept = np.array([path.name not in gone for path in before.paths])
        assert after.paths == tuple(path for path in before.paths if path.name not in gone)
        assert after.table == before.table.take_images(np.flatnonzero(kept))
    assert (tmp_path / "a" / "skipped.tsv").read_text().count("\n") == 3


def test_training_images_stay_decoded_while_there_is_room(
    tmp_path: Path, quick: dict[str, Any], listener: Any
) -> None:
    image_mb = 96 * 96 * 3 / 1e6
    _, _, cache, _ = load(quick, tmp_path / "a", listener)
    assert cache.size_mb == pytest.approx(10 * image_mb)  # not the four that are validated on
    _, _, cache, _ = load(quick, tmp_path / "a", listener, cache_mb=3.5 * image_mb)
    assert cache.size_mb == pytest.approx(3 * image_mb)


def test_a_resumed_run_looks_at_changed_images_alone(
    tmp_path: Path,
    quick: dict[str, Any],
    own_photos: Path,
    listener: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spoil(own_photos, "train2")
    settings = {**quick, "data": str(own_photos), "max_bad": 1}
    write_config(tmp_path / "a" / "config.toml", TrainConfig.from_dict(settings))
    first, check, *_ = load(settings, tmp_path / "a", listener)
    check.keep()
    read: list[str] = []
    plain = ImageCache.read
    monkeypatch.setattr(
        ImageCache, "read", lambda self, path: read.append(path.name) or plain(self, path)
    )
    monkeypatch.setattr(image_check, "read_image", lambda path, **_: read.append(path.name))
    again, check, *_ = load(settings, tmp_path / "a", listener)
    assert read == []
    assert again.label_hash == first.label_hash
    file = own_photos / "images" / "train" / "train5.png"
    with Image.open(file) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(file)
    os.utime(file, (1, 1))
    load(settings, tmp_path / "a", listener)
    assert read == ["train5.png"]
    spoil(own_photos, "train5")
    with pytest.raises(InputError, match=r"train5\.png: was changed since the run began and "):
        load(settings, tmp_path / "a", listener)


def test_a_run_that_left_images_out_goes_on_without_them(
    tmp_path: Path, quick: dict[str, Any], own_photos: Path, listener: Any, fingerprint: Any
) -> None:
    def at(step: int) -> None:
        if step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    spoil(own_photos, "train2", "val1")
    config = TrainConfig.from_dict(
        {**quick, "data": str(own_photos), "max_bad": 2, "steps": 6, "validate_every": 3}
    )
    with pytest.raises(Interrupted):
        train(config, tmp_path / "a", reporter=listener(at))
    result = resume(tmp_path / "a", reporter=listener())
    assert result.run is not None
    assert "val1" not in result.run.read_text()
    train(config, tmp_path / "b", reporter=listener())
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b")


def test_ctrl_c_while_looking_leaves_nothing(
    tmp_path: Path, quick: dict[str, Any], listener: Any
) -> None:
    class Impatient(listener):  # type: ignore[misc]
        def checking(self, done: int, images: int, left_s: float) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(TrainConfig.from_dict(quick), tmp_path / "runs" / "a", reporter=Impatient())
    assert not (tmp_path / "runs").exists()
