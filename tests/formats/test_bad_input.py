"""What cannot be used is told in one line with file, item, field and value."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from smallobj.boxes import InputError
from smallobj.formats import align_runs, read_labels, read_run, read_runs

Write = Callable[[Path, str], Path]

RUNS = {
    "not JSON": ('{"a.jpg": [[0, 1', "is not JSON"),
    "garbage": ("\x00\x01garbage", "is not JSON"),
    "empty": ("", "is empty"),
    "blank": (" \n", "is empty"),
    "list of numbers": ("[1, 2, 3]", r"item \[0\].*objects with image_id"),
    "a number": ("3", "has to be an object"),
    "a text": ('"a.jpg"', "has to be an object"),
    "empty list": ("[]", "holds no predictions"),
    "no image": ("{}", "holds no predictions"),
    "five values": ('{"a.jpg": [[0, 1, 2, 3, 4]]}', "item a.jpg: field box 0: .*6 values.*got 5"),
    "seven values": (
        '{"a.jpg": [[0,1,2,3,4,0.5], [0,1,2,3,4,0.5,6]]}',
        "item a.jpg: field box 1: .*6 values.*got 7",
    ),
    "NaN": ('{"a.jpg": [[0, NaN, 2, 3, 4, 0.5]]}', "a.jpg: field box 0 x: .*finite.*nan"),
    "infinity": ('{"a.jpg": [[0, 1, -Infinity, 3, 4, 0.5]]}', "box 0 y: .*finite.*-inf"),
    "1e999": ('{"a.jpg": [[0, 1, 2, 1e999, 4, 0.5]]}', "box 0 w: .*finite.*inf"),
    "huge integer": ('{"a.jpg": [[0, 1, 2, 1%s, 4, 0.5]]}' % ("0" * 400), "box 0 w: is beyond"),
    "null": ('{"a.jpg": [[0, 1, 2, 3, null, 0.5]]}', "box 0 h: value is missing, got null"),
    "true": ('{"a.jpg": [[0, 1, 2, 3, true, 0.5]]}', "box 0 h: is not a number, got True"),
    "score of 5": ('{"a.jpg": [[0, 1, 2, 3, 4, 5]]}', "box 0 score: .*outside 0 to 1, got 5"),
    "negative score": ('{"a.jpg": [[0, 1, 2, 3, 4, -0.1]]}', "box 0 score: .*outside.*-0.1"),
    "class as text": ('{"a.jpg": [["car", 1, 2, 3, 4, 0.5]]}', "box 0 class: .*number, got car"),
    "class of 1.5": ('{"a.jpg": [[1.5, 1, 2, 3, 4, 0.5]]}', "box 0 class: .*whole.*1.5"),
    "class of -1": ('{"a.jpg": [[-1, 1, 2, 3, 4, 0.5]]}', "box 0 class: .*got -1"),
    "class of 1e9": ('{"a.jpg": [[1e9, 1, 2, 3, 4, 0.5]]}', "box 0 class: class is outside"),
    "not a list of boxes": ('{"a.jpg": 5}', "item a.jpg: has to be a list of boxes, got 5"),
    "box is a number": ('{"a.jpg": [5]}', "item a.jpg: field box 0: .*6 values.*got 5"),
    "image twice": ('{"a.jpg": [], "a.jpg": []}', "item a.jpg: image stands twice"),
    "image twice in Unicode": ('{"é.jpg": [], "e\u0301.jpg": []}', "image stands twice"),
    "image without name": ('{"": []}', "image name is empty"),
    "deep": ("[" * 100_000, "is not JSON"),
    "COCO labels": ('{"images": [], "annotations": [], "categories": []}', "COCO labels, not"),
    "COCO without score": ('[{"image_id":1,"category_id":1,"bbox":[0,0,1,1]}]', r"\[0\].*score"),
    "COCO score": (
        '[{"image_id":1,"category_id":1,"bbox":[0,0,1,1],"score":5}]',
        r"item \[0\]: field score: .*got 5",
    ),
    "COCO score NaN": (
        '[{"image_id":1,"category_id":1,"bbox":[0,0,1,1],"score":NaN}]',
        r"item \[0\]: field score: is not a finite number, got nan",
    ),
    "COCO bbox": (
        '[{"image_id":1,"category_id":1,"bbox":[0,0,1],"score":1}]',
        r"item \[0\]: field bbox: has to be 4 numbers, got \[0, 0, 1\]",
    ),
    "COCO bbox null": (
        '[{"image_id":1,"category_id":1,"bbox":[0,0,1,null],"score":1}]',
        r"item \[0\]: field bbox\[3\]: value is missing",
    ),
    "COCO half a character": (
        '[{"image_id":1,"category_id\\ud800":1,"bbox":[0,0,1,1],"score":1}]',
        r"item \[0\]: holds what is not Unicode text",
    ),
    "COCO category": (
        '[{"image_id":1,"category_id":"car","bbox":[0,0,1,1],"score":1}]',
        r"item \[0\]: field category_id: Expected `int`, got `str`, got car",
    ),
}


@pytest.mark.parametrize(("content", "message"), RUNS.values(), ids=RUNS)
def test_bad_runs_are_refused(content: str, message: str, tmp_path: Path, text_file: Write) -> None:
    path = text_file(tmp_path / "run.json", content)
    with pytest.raises(InputError, match=message) as error:
        read_run(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_runs_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no runs given"):
        read_runs([])
    with pytest.raises(InputError, match="no runs given"):
        align_runs([])
    with pytest.raises(InputError, match="no such file"):
        read_run(tmp_path / "run.json")
    with pytest.raises(InputError, match="is a folder without a txt"):
        read_run(tmp_path)


def test_a_run_given_twice_is_refused(tmp_path: Path, text_file: Write) -> None:
    path = text_file(tmp_path / "run.json", '{"a.jpg": []}')
    with pytest.raises(InputError, match="given twice"):
        read_runs([path, tmp_path / "." / "run.json"])


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(b'{"\xff.jpg": []}')
    with pytest.raises(InputError, match="not UTF-8"):
        read_run(path)


def test_a_class_outside_the_names_of_the_run_is_refused(tmp_path: Path, text_file: Write) -> None:
    path = text_file(tmp_path / "run.json", '{"a.jpg": [[0,1,2,3,4,1], [2,1,2,3,4,1]]}')
    info = 'model = "m"\nclasses = {names = ["car", "bus"], ids = [0, 1]}\n'
    text_file(tmp_path / "run.run.toml", info)
    with pytest.raises(InputError, match=r"box 1 class: unknown class; known are 0 to 1, got 2"):
        read_run(path)


INFOS = {
    "not TOML": ("model = ", "is not TOML"),
    "no model": ("classes = {names = [], ids = []}", "field model: value is missing"),
    "model": (
        "model = 1\nclasses = {names = [], ids = []}",
        "field model: has to be a text, got 1",
    ),
    "cap": ('model = "m"\ncap = 0\nclasses = {names = [], ids = []}', "field cap: .*got 0"),
    "ids": ('model = "m"\nclasses = {names = ["a"], ids = ["0"]}', "field classes.ids"),
    "number of ids": ('model = "m"\nclasses = {names = ["a"], ids = []}', "differ in number"),
    "name twice": ('model = "m"\nclasses = {names = ["a", "a"], ids = [0, 1]}', "twice"),
}


@pytest.mark.parametrize(("content", "message"), INFOS.values(), ids=INFOS)
def test_bad_run_infos_are_refused(
    content: str, message: str, tmp_path: Path, text_file: Write
) -> None:
    path = text_file(tmp_path / "run.json", '{"a.jpg": []}')
    text_file(tmp_path / "run.run.toml", content)
    with pytest.raises(InputError, match=message) as error:
        read_run(path)
    assert str(error.value).startswith(str(tmp_path / "run.run.toml"))


@pytest.mark.parametrize("row", [[0, 5, 5, -3, 2, 0.5], [0, 5, 5, 0, 2, 0.5]])
def test_faulty_geometry_is_counted_or_where_strict_refused(
    row: list[float], tmp_path: Path, text_file: Write
) -> None:
    path = text_file(tmp_path / "run.json", json.dumps({"a.jpg": [row]}))
    run = read_run(path)
    assert run.repairs.swapped + run.repairs.zero_area == 1
    assert len(run.repairs.lines()) == 1
    with pytest.raises(InputError, match=r"item a.jpg: field box 0: "):
        read_run(path, strict=True)


LABELS = {
    "a list": ("labels.json", "[1, 2]", "is a list; labels are an object"),
    "not JSON": ("labels.json", "{", "is not JSON"),
    "text": ("labels.json", "hello", "is not JSON"),
    "empty": ("labels.json", "", "is empty"),
    "no image": ("labels.json", "{}", "holds no images"),
    "six values": ("labels.json", '{"a.jpg": [[0,1,2,3,4,1]]}', "box 0: .*5 values.*got 6"),
    "an unknown file": ("labels.csv", "a,b,c", "no labels recognised"),
    "COCO results": ("r.json", '[{"image_id": 1}]', "COCO results are predictions"),
}


@pytest.mark.parametrize(("name", "content", "message"), LABELS.values(), ids=LABELS)
def test_bad_label_files_are_refused(
    name: str, content: str, message: str, tmp_path: Path, text_file: Write
) -> None:
    path = text_file(tmp_path / name, content)
    with pytest.raises(InputError, match=message) as error:
        read_labels(path)
    assert str(path) in str(error.value)


def coco(**changes: object) -> str:
    content: dict[str, object] = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 64, "height": 48}],
        "annotations": [{"image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4]}],
        "categories": [{"id": 3, "name": "car"}],
    }
    return json.dumps(content | changes)


COCO = {
    "no list": ({"categories": {}}, "field categories"),
    "no such image": (
        {"annotations": [{"image_id": 8, "category_id": 3, "bbox": [1, 2, 3, 4]}]},
        r"item annotations\[0\]: field image_id: no such image, got 8",
    ),
    "no such class": (
        {"annotations": [{"image_id": 7, "category_id": 4, "bbox": [1, 2, 3, 4]}]},
        r"item annotations\[0\]: field category_id: unknown class, got 4",
    ),
    "NaN": (
        {"annotations": [{"image_id": 7, "category_id": 3, "bbox": [1, float("nan"), 3, 4]}]},
        r"item annotations\[0\]: field bbox\[1\]: is not a finite number",
    ),
    "no bbox": ({"annotations": [{"image_id": 7, "category_id": 3}]}, r"annotations\[0\].*bbox"),
    "image twice": (
        {"images": [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "./a.jpg"}]},
        r"item images\[1\]: field file_name: file name stands twice",
    ),
    "image id twice": (
        {"images": [{"id": 7, "file_name": "a.jpg"}, {"id": 7, "file_name": "b.jpg"}]},
        r"item images\[1\]: field id: image id stands twice, got 7",
    ),
    "class twice": (
        {"categories": [{"id": 3, "name": "car"}, {"id": 4, "name": "car"}]},
        r"item categories\[1\]: field name: category name stands twice, got car",
    ),
    "width as text": (
        {"images": [{"id": 7, "file_name": "a.jpg", "width": "wide"}]},
        r"item images\[0\]: field width: .*got wide",
    ),
    "no images": ({"images": [], "annotations": []}, "holds no images"),
}


@pytest.mark.parametrize(("changes", "message"), COCO.values(), ids=COCO)
def test_bad_coco_labels_are_refused(
    changes: dict[str, object], message: str, tmp_path: Path, text_file: Write
) -> None:
    path = text_file(tmp_path / "labels.json", coco(**changes))
    with pytest.raises(InputError, match=message):
        read_labels(path, kind="coco")


YOLO = {
    "four values": ("0 0.5 0.5 0.1", "line 1: .*5 values.*got 4"),
    "six values": ("0 .5 .5 .1 .1\n\n0 .5 .5 .1 .1 .9", "line 3: .*5 values.*got 6"),
    "NaN": ("0 nan 0.5 0.1 0.1", "line 1 cx: is not a finite number, got nan"),
    "text": ("0 0.5 0.5 wide 0.1", "line 1 w: is not a number, got wide"),
    "grouped digits": ("0 0.5 0.5 0.1_0 0.1", "line 1 w: is not a number"),
    "pixels": ("0 30 20 8 8", "line 1 cx: is not a fraction of the image"),
    "class as text": ("car 0.5 0.5 0.1 0.1", "line 1 class: is not a number, got car"),
    "class outside": ("2 0.5 0.5 0.1 0.1", "line 1 class: unknown class; known are 0 to 1, got 2"),
}


@pytest.mark.parametrize(("content", "message"), YOLO.values(), ids=YOLO)
def test_bad_yolo_lines_are_refused(
    content: str, message: str, tmp_path: Path, text_file: Write, photo: Callable[..., Path]
) -> None:
    photo(tmp_path / "a.png")
    text_file(tmp_path / "classes.txt", "car\nbus\n")
    path = text_file(tmp_path / "a.txt", content)
    with pytest.raises(InputError, match=f"item a.png: field {message}") as error:
        read_labels(tmp_path)
    assert str(error.value).startswith(str(path))


VOC = {
    "no XML": ("<annotation>", "is not XML"),
    "another XML": ("<html></html>", "is no VOC annotation, got html"),
    "entity": (
        '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]><annotation>&c;</annotation>',
        "declares an entity",
    ),
    "no xmax": ("<annotation>{}</annotation>", "object 0 xmax: value is missing"),
    "NaN": ("<annotation>{}<xmax>nan</xmax></annotation>", "xmax: value is missing"),
}


@pytest.mark.parametrize(("content", "message"), VOC.values(), ids=VOC)
def test_bad_voc_files_are_refused(
    content: str, message: str, tmp_path: Path, text_file: Write
) -> None:
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><ymax>9</ymax></bndbox>"
    item = f"<filename>a.png</filename><object><name>car</name>{box}</object>"
    path = text_file(tmp_path / "Annotations" / "a.xml", content.format(item))
    with pytest.raises(InputError, match=message) as error:
        read_labels(tmp_path)
    assert str(error.value).startswith(str(path))


def test_a_folder_without_images_is_refused(tmp_path: Path, text_file: Write) -> None:
    (tmp_path / "photos").mkdir()
    text_file(tmp_path / "labels.json", '{"a.png": []}')
    with pytest.raises(InputError, match="photos: no images in this folder"):
        read_labels(tmp_path / "labels.json", images=tmp_path / "photos")
    text_file(tmp_path / "yolo" / "labels" / "a.txt", "0 .5 .5 .1 .1")
    (tmp_path / "yolo" / "images").mkdir()
    with pytest.raises(InputError, match="images: no images in this folder"):
        read_labels(tmp_path / "yolo")


def test_labels_of_other_images_are_refused(
    tmp_path: Path, text_file: Write, photo: Callable[..., Path]
) -> None:
    photo(tmp_path / "photos" / "b.png")
    text_file(tmp_path / "labels.json", '{"a.png": []}')
    with pytest.raises(InputError, match="labels of another data set"):
        read_labels(tmp_path / "labels.json", images=tmp_path / "photos")


def test_the_same_base_name_in_two_folders_is_refused(
    tmp_path: Path, text_file: Write, photo: Callable[..., Path]
) -> None:
    for name in ("x/1.png", "y/1.png", "2.png"):
        photo(tmp_path / "images" / name)
    path = text_file(tmp_path / "labels.json", '{"1.png": [], "2.png": []}')
    with pytest.raises(InputError, match=r"several folders.*x/1.png, y/1.png"):
        read_labels(path, images=tmp_path / "images")
    labels = read_labels(path)  # of use without its images; whoever needs them learns why
    assert len(labels.table.images) == 2
    with pytest.raises(InputError, match=r"several folders.*x/1.png, y/1.png"):
        _ = labels.paths


def test_a_missing_image_is_told_when_it_is_needed(
    tmp_path: Path, text_file: Write, photo: Callable[..., Path]
) -> None:
    photo(tmp_path / "images" / "a.png")
    labels = read_labels(text_file(tmp_path / "labels.json", '{"a.png": [], "b.png": []}'))
    assert labels.found == (tmp_path / "images" / "a.png", None)
    with pytest.raises(InputError, match=r"item b.png: image is missing"):
        _ = labels.paths


def test_several_kinds_and_several_files_are_asked_for(
    tmp_path: Path, text_file: Write, photo: Callable[..., Path]
) -> None:
    text_file(tmp_path / "train_label.json", '{"a.png": []}')
    text_file(tmp_path / "val_label.json", '{"b.png": []}')
    with pytest.raises(InputError, match=r"several label files.*split"):
        read_labels(tmp_path)
    assert read_labels(tmp_path, split="val").table.images.ids == ("b.png",)
    with pytest.raises(InputError, match="no such split, got test"):
        read_labels(tmp_path, split="test")
    photo(tmp_path / "a.png")
    text_file(tmp_path / "a.txt", "0 .5 .5 .1 .1")
    with pytest.raises(InputError, match=r"several kinds \(challenge, yolo\)"):
        read_labels(tmp_path)
    assert read_labels(tmp_path, kind="yolo").kind == "yolo"
    with pytest.raises(InputError, match="unknown kind of labels; known: challenge"):
        read_labels(tmp_path, kind="csv")


def test_a_list_of_names_that_the_labels_lack_is_refused(tmp_path: Path, text_file: Write) -> None:
    labels = text_file(tmp_path / "labels.json", '{"a.png": []}')
    names = text_file(tmp_path / "val.txt", "a.png\nb.png\n")
    with pytest.raises(InputError, match=r"item b.png: names 1 of 2 images that the labels lack"):
        read_labels(labels, split=str(names))
