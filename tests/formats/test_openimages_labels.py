"""Labels as Open Images CSV: what their lines mean, and what is wrong with them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from smallobj.boxes import InputError
from smallobj.formats import check_labels, is_run, read_labels

Write = Callable[[Path, str], Path]

OFFICIAL = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,"
    "IsDepiction,IsInside\n"
)


def test_the_official_columns_are_labels(
    tmp_path: Path, text_file: Write, photo: Callable[..., Path]
) -> None:
    photo(tmp_path / "images" / "a.png", (64, 48))
    path = text_file(tmp_path / "val.csv", OFFICIAL + "a,xclick,/m/01,1,0.25,0.5,0.5,1,0,0,0,0,0\n")
    assert not is_run(path)
    labels = read_labels(path)
    assert labels.kind == "openimages"
    assert labels.table.classes.names == ("/m/01",)
    assert labels.table.xyxy.tolist() == [[16, 24, 32, 48]]


def test_pixels_need_no_images(tmp_path: Path, text_file: Write) -> None:
    path = text_file(tmp_path / "v.csv", "image,class,x1,y1,x2,y2\na,7,1,2,30,40\nb,,,,,\n")
    table = read_labels(path).table
    assert table.images.ids == ("a", "b")
    assert table.offsets.tolist() == [0, 1, 1]
    assert table.xyxy.tolist() == [[1, 2, 30, 40]]
    assert table.classes.names[table.label[0]] == "7"


def test_fractions_without_images_are_refused(tmp_path: Path, text_file: Write) -> None:
    path = text_file(tmp_path / "v.csv", "image,class,x1,y1,x2,y2\na,car,.1,.2,.3,.4\n")
    with pytest.raises(InputError, match=r"v.csv: item a: image is missing, and the boxes are fra"):
        read_labels(path)


def test_a_class_outside_the_names_is_refused(tmp_path: Path, text_file: Write) -> None:
    path = text_file(tmp_path / "v.csv", "image,class,x1,y1,x2,y2\na,car,1,2,3,4\nb,van,1,2,3,4\n")
    text_file(tmp_path / "v.names", "bus\ncar\n")
    with pytest.raises(InputError, match=r"item b: field line 3 LabelName: unknown.*car, got van"):
        read_labels(path)


def test_checking_lists_every_wrong_line(tmp_path: Path, text_file: Write) -> None:
    rows = "a,car,1,nan,3,4\nb,car,1,2,3\nc,car,1,2,30,40\nd,,1,2,3,4\n"
    path = text_file(tmp_path / "v.csv", "image,class,x1,y1,x2,y2\n" + rows)
    checked = check_labels(path)
    wrong = [(f.item, f.field) for f in checked.faults if f.kind == "wrong value"]
    assert wrong == [("a", "line 2 y1"), (None, "line 3"), ("d", "line 5 class")]
    assert checked.boxes == 1
