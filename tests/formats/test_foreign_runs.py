"""Runs that other tools wrote: CSV with its headers and units, folders of YOLO txt."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from smallobj.boxes import Classes, InputError
from smallobj.formats import align_runs, is_run, read_run, read_run_classes, read_runs

Write = Callable[[Path, str], Path]

HEADER = "ImageID,LabelName,Conf,XMin,XMax,YMin,YMax\n"


@pytest.mark.parametrize(
    "content",
    [
        HEADER + "a.jpg,car,0.5,0.1,0.3,0.2,0.4\n",
        "ImageID,LabelName,Confidence,XMin,YMin,XMax,YMax\na.jpg,car,0.5,0.1,0.2,0.3,0.4\n",
        "LabelName,x2,Y2,X1,y_1,score,image_id\ncar,0.3,0.4,0.1,0.2,0.5,a.jpg\n",
        "image;class;confidence;xmin;ymin;xmax;ymax\r\na.jpg;car;0.5;0.1;0.2;0.3;0.4\r\n",
        "\ufeffpath\tcategory\tscore\tleft\ttop\tright\tbottom\n./a.jpg\tcar\t.5\t.1\t.2\t.3\t.4",
        HEADER.replace(",Conf", ",Extra,Conf") + '"a.jpg","car",9,"0.5", 0.1,0.3,0.2,0.4\n\n',
        "ImageID,LabelName,Conf,XMin,XMax,YMin,YMax\ra.jpg,car,0.5,0.1,0.3,0.2,0.4\r",
    ],
    ids=["Open Images", "submission", "any order", "semicolons", "tabs", "quotes", "old line ends"],
)
def test_columns_are_found_by_their_names(content: str, tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    path.write_bytes(content.encode())
    run = read_run(path)
    assert (run.kind, run.unit, run.table.images.ids) == ("openimages", "normalised", ("a.jpg",))
    assert run.table.classes.names == ("car",)
    assert run.table.xyxy.tolist() == [[0.1, 0.2, 0.3, 0.4]]
    assert run.table.score is not None
    assert run.table.score.tolist() == [0.5]
    assert is_run(path)


def test_texts_that_look_like_numbers_stay_texts(tmp_path: Path, text_file: Write) -> None:
    rows = "1e5,007,0.5,0,1,0,1\n1E5,nan,0.5,0,1,0,1\n007,car,0.5,0,1,0,1\n"
    table = read_run(text_file(tmp_path / "run.csv", HEADER + rows)).table
    assert sorted(table.images.ids) == ["007", "1E5", "1e5"]
    assert sorted(table.classes.names) == ["007", "car", "nan"]


def test_labels_that_are_all_numbers_are_ids(tmp_path: Path, text_file: Write) -> None:
    path = text_file(tmp_path / "run.csv", HEADER + "a,3,0.5,0,1,0,1\na,0,0.5,0,1,0,1\n")
    run = read_run(path)
    assert run.table.classes == Classes.of(["0", "1", "2", "3"])
    coins = Classes.of(["3", "0"], [7, 8])
    assert read_run(path, classes=coins).table.label.tolist() == [0, 1]  # a name before a number


def test_pixels_and_fractions_are_told_by_all_boxes(tmp_path: Path, text_file: Write) -> None:
    inside, corner, far = (f"a,c,0.5,0.1,{x},0.2,0.4\n" for x in ("0.9", "1.01", "64"))
    for rows, unit in ((inside + corner, "normalised"), (far + far + inside, "pixel")):
        path = text_file(tmp_path / "run.csv", HEADER + rows)
        run = read_run(path)
        assert run.unit == unit
    mixed = text_file(tmp_path / "mixed.csv", HEADER + far + inside * 3)
    with pytest.raises(InputError, match=r"1 of 4 boxes reach beyond 1.5.*--unit"):
        read_run(mixed)
    assert read_run(mixed, unit="pixel").table.xyxy.max() == 64
    assert read_run(mixed, unit="normalised").repairs.lines() == ["1 box cut at the image border"]
    with pytest.raises(InputError, match="field unit: unknown; known: pixel, normalised"):
        read_run(mixed, unit="mm")


BAD_CSV = {
    "no score": (HEADER.replace("Conf,", "") + "a,c,0,1,0,1", "line 1: no column Conf: labels"),
    "no edge": (HEADER.replace("XMax,", "") + "a,c,0,1,0,1", "line 1: no column XMax"),
    "two scores": (HEADER.replace("Conf", "Conf,score"), "mean the same: Conf, score"),
    "no header": ("a,c,0.5,0,1,0,1\n", "line 1: no column ImageID"),
    "only a header": (HEADER, "holds no predictions"),
    "ragged": (HEADER + "a,c,1,0,1,0,1\na,c,1,0,1,0\n", "line 3: a line has 7 values.*got 6"),
    "too long": (HEADER + "a,c,1,0,1,0,1,5\n", "line 2: a line has 7 values.*got 8"),
    "NaN": (HEADER + "a,c,1,nan,1,0,1\n", "item a: field line 2 XMin: is not a finite.*got nan"),
    "infinity": (HEADER + "a,c,1,0,-inf,0,1\n", "line 2 XMax: is not a finite.*got -inf"),
    "1e999": (HEADER + "a,c,1,0,1e999,0,1\n", "line 2 XMax: is not a finite.*got 1e999"),
    "huge": (HEADER + "a,c,1,0,1e10,0,1\n", r"line 2 XMax: is beyond 1e\+09"),
    "no number": (HEADER + "a,c,1,0,wide,0,1\n", "line 2 XMax: is not a number, got wide"),
    "comma": (HEADER + 'a,c,1,0,"0,5",0,1\n', "line 2 XMax: is not a number, got 0,5"),
    "missing": (HEADER + "a,c,,0,1,0,1\n", "line 2 Conf: value is missing"),
    "score": (HEADER + "a,c,50,0,1,0,1\n", "line 2 Conf: score is outside 0 to 1, got 50"),
    "no class": (HEADER + "a,,1,0,1,0,1\n", "line 2 LabelName: value is missing"),
    "no image": (HEADER + ",c,1,0,1,0,1\n", "image name is empty"),
    "class of 1e8": (HEADER + "a,100000000,1,0,1,0,1\n", "class is outside 0 to 9999"),
    "open quote": (HEADER + 'a,"c,1,0,1,0,1\n', "line 2"),
}


@pytest.mark.parametrize(("content", "message"), BAD_CSV.values(), ids=BAD_CSV)
def test_bad_csv_runs_are_refused(
    content: str, message: str, tmp_path: Path, text_file: Write
) -> None:
    path = text_file(tmp_path / "run.csv", content)
    with pytest.raises(InputError, match=message) as error:
        read_run(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_csv_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    path.write_bytes((HEADER + "a,c,1,0,1,0,1\nä,c,1,0,1,0,1\n").encode("latin-1"))
    with pytest.raises(InputError, match="field line 3: is not UTF-8 text"):
        read_run(path)


def test_a_folder_of_ultralytics_is_read(tmp_path: Path, text_file: Write) -> None:
    text_file(tmp_path / "predict" / "labels" / "10.txt", "2 0.5 0.25 0.5 0.5 0.875\n")
    text_file(tmp_path / "predict" / "labels" / "9.txt", "\n0 0.1 0.1 0.1 0.1 1\r\n")
    (tmp_path / "predict" / "10.jpg").write_bytes(b"drawn")
    for folder in (tmp_path / "predict", tmp_path / "predict" / "labels"):
        assert is_run(folder)
        run = read_run(folder)
        assert (run.kind, run.name, run.unit) == ("yolo", folder.name, "normalised")
        assert run.table.images.ids == ("9", "10")
        assert np.allclose(run.table.xyxy[1], [0.25, 0, 0.75, 0.5])
        assert run.table.label.tolist() == [0, 2]


BAD_TXT = {
    "labels": ("0 .5 .5 .1 .1", "line 1: .*6 values.*five are labels.*save_conf.*got 5 values"),
    "seven": ("0 .5 .5 .1 .1 .9 4", "line 1: a line of a run has 6 values.*got 7"),
    "one of five": ("0 .5 .5 .1 .1 1\n0 .5 .5 .1 .1", "line 2: .*five are labels"),
    "NaN": ("0 nan .5 .1 .1 1", "line 1 cx: is not a finite number, got nan"),
    "pixels": ("\n0 .5 .5 64 .1 1", "line 2 w: is no fraction of the image .pixels.*got 64"),
    "score": ("0 .5 .5 .1 .1 1.01", "line 1 conf: score is outside 0 to 1, got 1.01"),
    "class": ("0.5 .5 .5 .1 .1 1", "line 1 class: class is not a whole number"),
    "class of -1": ("-1 .5 .5 .1 .1 1", "line 1 class: class is outside"),
    "grouped digits": ("0 .5 .5 .1_0 .1 1", "line 1 w: is not a number"),
    "text": ("car .5 .5 .1 .1 1", "line 1 class: is not a number, got car"),
}


@pytest.mark.parametrize(("content", "message"), BAD_TXT.values(), ids=BAD_TXT)
def test_bad_txt_runs_are_refused(
    content: str, message: str, tmp_path: Path, text_file: Write
) -> None:
    text_file(tmp_path / "run" / "a.txt", "0 .5 .5 .1 .1 1")
    path = text_file(tmp_path / "run" / "b.txt", content)
    with pytest.raises(InputError, match=message) as error:
        read_run(tmp_path / "run")
    assert str(error.value).startswith(f"{path}: ")


def test_faulty_geometry_of_fractions_is_repaired_or_dropped(
    tmp_path: Path, text_file: Write
) -> None:
    rows = ["0 .5 .5 -.2 .1 1", "0 .5 .5 0 .1 1", "0 1 .5 .2 .1 1", "0 1.4 .5 .2 .1 1"]
    text_file(tmp_path / "run" / "a.txt", "\n".join([*rows, "0 .5 .5 1.000004 1 1"]))
    run = read_run(tmp_path / "run")
    assert run.repairs.lines() == [
        "1 box with swapped corners repaired",
        "1 box cut at the image border",
        "1 box without area dropped",
        "1 box outside its image dropped",
    ]
    assert np.allclose(run.table.xyxy[1], [0.9, 0.45, 1, 0.55])
    with pytest.raises(InputError, match=r"a.txt: item a: field line 1: width or height is neg"):
        read_run(tmp_path / "run", strict=True)


def numbered_runs(tmp_path: Path, text_file: Write) -> list[Path]:
    text_file(tmp_path / "yolo" / "a.txt", "1 .5 .5 .2 .1 1")
    csv = text_file(tmp_path / "oi.csv", HEADER + "a,pig,0.5,0,1,0,1\na,cow,0.5,0,1,0,1\n")
    return [tmp_path / "yolo", csv]


def test_numbers_do_not_meet_names_unless_told(tmp_path: Path, text_file: Write) -> None:
    paths = numbered_runs(tmp_path, text_file)
    with pytest.raises(InputError, match=r"yolo: calls classes by number, .*oi.csv by name:.*--cl"):
        align_runs(read_runs(paths))
    names = text_file(tmp_path / "farm.names", "pig\ncow\n")
    for run in ("yolo", str(paths[0])):
        said = read_run_classes([f"{run}={names}"], paths)
        aligned = align_runs(read_runs(paths, classes=said))
        assert aligned.classes == Classes.of(["pig", "cow"])
        assert [table.label.tolist() for table in aligned.tables] == [[1], [0, 1]]


def test_classes_are_read_from_any_file_that_names_them(tmp_path: Path, text_file: Write) -> None:
    paths = numbered_runs(tmp_path, text_file)
    coco = '{"categories": [{"id": 1, "name": "cow"}, {"id": 0, "name": "pig"}]}'
    toml = 'model = "m"\nclasses = {names = ["pig", "cow"], ids = [0, 1]}\n'
    for name, content in (
        ("a.yaml", "names: {0: pig, 1: cow}"),
        ("a.json", coco),
        ("a.run.toml", toml),
        ("a.names", "pig\ncow\n"),
    ):
        said = read_run_classes([str(text_file(tmp_path / name, content))], paths)
        assert {dict(zip(c.source_ids, c.names, strict=True))[1] for c in said.values()} == {"cow"}
        assert set(said) == set(paths)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["b=names.txt"], r"no such run; the runs are .*yolo, .*oi.csv, got b=names"),
        (["yolo={0}", "yolo={0}"], "given twice"),
        (["{0}", "{0}"], "two files for all runs"),
        (["yolo=none.txt"], "none.txt: class names cannot be read"),
        (["none.txt"], "none.txt: class names cannot be read"),
    ],
)
def test_classes_of_no_run_are_refused(
    values: list[str], message: str, tmp_path: Path, text_file: Write
) -> None:
    paths = numbered_runs(tmp_path, text_file)
    names = text_file(tmp_path / "names.txt", "pig\ncow\n")
    with pytest.raises(InputError, match=message):
        read_run_classes([value.format(names) for value in values], paths)


def test_two_runs_of_one_name_are_named_by_path(tmp_path: Path, text_file: Write) -> None:
    paths = [text_file(tmp_path / part / "a.json", '{"1": []}') for part in ("x", "y")]
    names = text_file(tmp_path / "names.txt", "pig\n")
    with pytest.raises(InputError, match=r"several runs are called so .*x/a.json, .*y/a.json"):
        read_run_classes([f"a={names}"], paths)
    assert set(read_run_classes([f"{paths[1]}={names}"], paths)) == {paths[1]}


def test_names_that_a_run_contradicts_are_refused(tmp_path: Path, text_file: Write) -> None:
    paths = numbered_runs(tmp_path, text_file)
    with pytest.raises(InputError, match=r"line 3 class: unknown class; known are pig, got cow"):
        read_run(paths[1], classes=Classes.of(["pig"]))
    with pytest.raises(InputError, match=r"a.txt: item a: field line 1 class: unknown.*0, got 1"):
        read_run(paths[0], classes=Classes.of(["pig"]))
    text_file(
        tmp_path / "yolo.run.toml", 'model = "m"\nclasses = {names = ["hen", "ox"], ids = [0, 1]}'
    )
    with pytest.raises(InputError, match=r"yolo: .*class 0 is hen in the TOML beside.*got pig"):
        read_run(paths[0], classes=Classes.of(["pig", "cow"]))
