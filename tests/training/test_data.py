"""What is trained on and what is held out; faulty data is refused before anything is written."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from smallobj.boxes import InputError
from smallobj.training import TrainConfig
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


def everything(quick: dict[str, Any], **settings: Any) -> tuple[TrainingData, list[str]]:
    return load(quick, hold_out=False, **settings)


def test_nothing_held_out_is_all_there_is(quick: dict[str, Any], own_photos: Path) -> None:
    data, notes = everything(quick)
    assert data.val is None
    assert len(data.train.paths) == 14
    assert len(data.train.table) == 28
    assert "own parts train and val" in notes[0]
    assert len(everything(quick, split="train")[0].train.paths) == 10
    yaml = own_photos / "data.yaml"
    yaml.write_text(yaml.read_text().replace("val: images/val\n", ""))
    assert len(everything(quick, data=str(own_photos))[0].train.paths) == 10


def test_images_of_one_name_in_both_parts_are_both_trained_on(
    quick: dict[str, Any], tmp_path: Path, photos: Path
) -> None:
    for part, count in (("train", 3), ("val", 2)):
        rows = {f"{i}.png": [[1, 5, 5, 20, 20 + i]] for i in range(count)}
        (tmp_path / "data" / part / f"{part}_data").mkdir(parents=True)
        (tmp_path / "data" / part / f"{part}_label").write_text(json.dumps(rows))
        for i in range(count):
            source = photos / "images" / part / f"{part}{i}.png"
            shutil.copy(source, tmp_path / "data" / part / f"{part}_data" / f"{i}.png")
    part = everything(quick, data=str(tmp_path / "data"))[0].train
    assert part.table.images.ids == tuple(
        [f"train/{i}.png" for i in range(3)] + [f"val/{i}.png" for i in range(2)]
    )
    assert len(set(part.paths)) == 5
    assert part.table.xyxy[:, 3].tolist() == [25, 26, 27, 25, 26]


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"val": "photos"}, "val"),
        ({"val_split": "val"}, "val_split"),
        ({"folds": 3}, "folds"),
        ({"patience": 2}, "patience"),
    ],
)
def test_what_needs_images_held_out_is_refused_without(
    quick: dict[str, Any], settings: dict[str, Any], field: str
) -> None:
    with pytest.raises(InputError, match=f"field {field}: with --fold none nothing is held out"):
        everything(quick, **settings)


def test_a_share_is_drawn_of_the_training_images_alone(quick: dict[str, Any]) -> None:
    whole, _ = load(quick, folds=7, fold=1)
    half, notes = load(quick, folds=7, fold=1, subset=0.5)
    assert "trains on 6 of 12 images" in notes
    assert ids(half)[0] < ids(whole)[0]
    assert ids(half)[1] == ids(whole)[1]
    assert ids(load(quick, folds=7, fold=1, subset=0.5)[0]) == ids(half)
    assert ids(load(quick, folds=7, fold=1, subset=0.5, seed=1)[0])[0] != ids(half)[0]


def test_a_tiny_share_has_an_image_with_a_box(quick: dict[str, Any], own_photos: Path) -> None:
    for i in range(1, 10):
        (own_photos / "labels" / "train" / f"train{i}.txt").write_text("")
    for seed in range(4):
        data, _ = load(quick, data=str(own_photos), subset=0.05, seed=seed)
        assert [path.name for path in data.train.paths] == ["train0.png"]


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
