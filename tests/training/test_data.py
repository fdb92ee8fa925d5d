"""What is trained on and what is held out; faulty data is refused before anything is written."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from smallobj.boxes import InputError
from smallobj.training import TrainConfig, train
from smallobj.training.data import TrainingData, load_data


def load(quick: dict[str, Any], **settings: Any) -> tuple[TrainingData, list[str]]:
    notes: list[str] = []
    return load_data(TrainConfig.from_dict({**quick, **settings}), notes.append), notes


def ids(data: TrainingData) -> tuple[set[str], set[str]]:
    return set(data.train.table.images.ids), set(data.val.table.images.ids)


def test_a_data_sets_own_parts_are_used_and_told(quick: dict[str, Any]) -> None:
    data, notes = load(quick)
    train_ids, val_ids = ids(data)
    assert len(train_ids) == 10
    assert len(val_ids) == 4
    assert all("val" in name for name in val_ids)
    assert data.held_out == "val"
    assert "validates on its val" in notes[0]
    assert 12 <= data.largest_object_px < 24


def test_folds_deal_all_images(quick: dict[str, Any]) -> None:
    held_out = []
    for fold in range(3):
        data, _ = load(quick, folds=3, fold=fold)
        train_ids, val_ids = ids(data)
        assert not train_ids & val_ids
        assert len(train_ids | val_ids) == 14
        held_out.append(val_ids)
        assert data.held_out == f"fold {fold} of 3"
    assert len(set.union(*held_out)) == 14


def test_a_part_can_be_named_or_be_another_data_set(
    quick: dict[str, Any], own_photos: Path
) -> None:
    data, _ = load(quick, val_split="val")
    assert data.held_out == "val"
    assert len(data.train.paths) == 10
    data, _ = load(quick, split="train", val=str(own_photos))
    assert data.held_out == "photos"
    assert len(data.val.paths) == 14


def test_classes_of_another_data_set_are_matched_by_name(
    quick: dict[str, Any], own_photos: Path
) -> None:
    yaml = own_photos / "data.yaml"
    yaml.write_text(yaml.read_text().replace("[blue, yellow]", "[yellow, blue]"))
    same, _ = load(quick, split="train", val=str(quick["data"]))
    swapped, _ = load(quick, split="train", val=str(own_photos))
    assert swapped.val.table.classes == same.train.table.classes
    assert (swapped.val.table.label == 1 - same.val.table.label).all()
    yaml.write_text(yaml.read_text().replace("blue", "green"))
    with pytest.raises(InputError, match="not among those trained on: blue, yellow, got green"):
        load(quick, split="train", val=str(own_photos))


def test_no_box_at_all_is_refused(quick: dict[str, Any], own_photos: Path) -> None:
    for file in (own_photos / "labels" / "train").iterdir():
        file.write_text("")
    with pytest.raises(InputError, match="the 10 training images have no box at all"):
        load(quick, data=str(own_photos))


def test_a_class_without_a_box_is_told(quick: dict[str, Any], own_photos: Path) -> None:
    yaml = own_photos / "data.yaml"
    yaml.write_text(yaml.read_text().replace("yellow]", "yellow, red]"))
    _, notes = load(quick, data=str(own_photos))
    assert "no training box of class red" in notes
    assert "no validation box of class red" in notes


def test_an_unreadable_image_is_found_before_anything_is_written(
    quick: dict[str, Any], own_photos: Path, tmp_path: Path
) -> None:
    (own_photos / "images" / "train" / "train3.png").write_bytes(b"no image")
    config = TrainConfig.from_dict({**quick, "data": str(own_photos)})
    with pytest.raises(InputError, match=r"train3\.png"):
        train(config, tmp_path / "runs" / "a")
    assert not (tmp_path / "runs").exists()


def test_an_image_of_another_size_than_its_labels_say_is_told(
    quick: dict[str, Any], tmp_path: Path, photos: Path
) -> None:
    folder = tmp_path / "voc"
    for name in ("Annotations", "JPEGImages"):
        (folder / name).mkdir(parents=True)
    for i in range(6):
        shutil.copy(photos / "images" / "train" / f"train{i}.png", folder / "JPEGImages")
        (folder / "Annotations" / f"train{i}.xml").write_text(
            f"<annotation><filename>train{i}.png</filename>"
            "<size><width>200</width><height>96</height><depth>3</depth></size>"
            "<object><name>square</name><bndbox><xmin>5</xmin><ymin>5</ymin>"
            "<xmax>20</xmax><ymax>20</ymax></bndbox></object></annotation>"
        )
    data, notes = load(quick, data=str(folder), folds=2)
    assert any("train0.png has 96 x 96 px, not 200 x 96" in note for note in notes)
    assert set(data.train.table.images.width) == {96}


def test_boxes_larger_than_the_crop_are_told(quick: dict[str, Any], own_photos: Path) -> None:
    (own_photos / "labels" / "train" / "train0.txt").write_text("0 0.5 0.5 0.9 0.1\n")
    _, notes = load(quick, data=str(own_photos))
    assert "1 of 19 training boxes are larger than the crop of 64 px" in notes


def test_the_label_hash_changes_with_a_box(quick: dict[str, Any], own_photos: Path) -> None:
    first, _ = load(quick, data=str(own_photos))
    again, _ = load(quick, data=str(own_photos))
    file = own_photos / "labels" / "val" / "val0.txt"
    file.write_text(file.read_text().replace("0.", "0.1", 1))
    changed, _ = load(quick, data=str(own_photos))
    assert first.label_hash == again.label_hash != changed.label_hash


def test_too_large_an_image_is_refused_by_its_header(
    quick: dict[str, Any], own_photos: Path
) -> None:
    Image.new("1", (2000, 2000)).save(own_photos / "images" / "val" / "val0.png")
    with pytest.raises(InputError, match=r"val0\.png.*larger than 1 megapixels"):
        load(quick, data=str(own_photos), max_megapixels=1.0)
