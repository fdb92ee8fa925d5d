"""A folder of pictures: names, index, crops, sheets, what cannot be read, what is replaced."""

import csv
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from smallobj.boxes import BoxTable, Classes, Images, InputError
from smallobj.report.judged import Judged, judge
from smallobj.report.picture_files import picture_folder, picture_name, safe_names
from smallobj.report.show import INDEX_COLUMNS, ShowConfig, show_run

IDS = ("a.png", "sub/b.png", "sub/deep/c.png")


def judged(ids: tuple[str, ...] = IDS) -> Judged:
    """One right, one wrong and one missed box in every image."""
    images, count = Images.of(ids), len(ids)
    index = np.repeat(np.arange(count), 2)
    true = np.tile([[10.0, 10, 30, 30], [60.0, 10, 80, 30]], (count, 1))
    seen = np.tile([[11.0, 10, 31, 30], [60.0, 60, 80, 80]], (count, 1))
    common = {"images": images, "classes": Classes.of(["bolt"]), "image_index": index}
    label = np.zeros(2 * count, np.int32)
    truth = BoxTable.build(**common, xyxy=true, label=label)
    run = BoxTable.build(**common, xyxy=seen, label=label, score=np.full(2 * count, 0.5))
    return judge(truth, run)


@pytest.fixture
def photographs(tmp_path: Path) -> list[Path]:
    files = [tmp_path / "photos" / image_id for image_id in IDS]
    for number, file in enumerate(files):
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (120, 100), (40 * number, 90, 90)).save(file)
    return files


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "index.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert set(rows[0]) == set(INDEX_COLUMNS)
    return rows


def test_every_box_has_its_pictures(tmp_path: Path, photographs: list[Path]) -> None:
    progress: list[tuple[int, int]] = []
    out = tmp_path / "shown"
    written = show_run(
        judged(), photographs, out, ShowConfig(picture="png"),
        on_progress=lambda *counts: progress.append(counts),
    )  # fmt: skip
    assert (written.pictures, written.crops, written.sheets, written.unread) == (3, 9, 3, ())
    assert progress == [(1, 3), (2, 3), (3, 3)]
    rows = rows_of(out)
    assert [row["kind"] for row in rows] == ["right", "wrong", "missed"] * 3
    assert rows[1]["x1"] == "60.0"
    assert float(rows[0]["iou"]) == pytest.approx(19 / 21)
    assert (rows[2]["score"], rows[2]["iou"]) == ("", "")
    for row in rows:
        with Image.open(out / row["picture"]) as picture:
            assert picture.width == 120
            middle = tuple(int(float(row[a]) + 10) for a in ("x1", "y1"))
            assert picture.getpixel(middle) == (40 * IDS.index(row["image"]), 90, 90)
        with Image.open(out / row["crop"]) as crop:
            assert max(crop.size) == 320
    assert {path.name for path in (out / "sheets").iterdir()} == {
        "right-001.png", "wrong-001.png", "missed-001.png",
    }  # fmt: skip
    assert (out / "images/sub/deep/c.png").is_file()


def test_an_image_that_cannot_be_read_is_told_and_stays_in_the_index(
    tmp_path: Path, photographs: list[Path]
) -> None:
    photographs[1].write_bytes(photographs[1].read_bytes()[:60])
    written = show_run(judged(), photographs, tmp_path / "shown", ShowConfig())
    assert written.pictures == 2
    assert [one.id for one in written.unread] == ["sub/b.png"]
    assert "truncated or damaged" in written.unread[0].reason
    rows = rows_of(tmp_path / "shown")
    assert [bool(row["picture"]) for row in rows] == [True] * 3 + [False] * 3 + [True] * 3
    assert [bool(row["crop"]) for row in rows] == [bool(row["picture"]) for row in rows]


def test_the_pictures_do_not_depend_on_the_threads(tmp_path: Path, photographs: list[Path]) -> None:
    for threads in (1, 3):
        config = ShowConfig(threads=threads, crops=False)
        show_run(judged(), photographs, tmp_path / f"with{threads}", config)
    first, second = (
        {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*.*") if p.is_file()}
        for folder in (tmp_path / "with1", tmp_path / "with3")
    )
    assert first == second
    assert set(map(str, first)) == {"index.csv", *(f"images/{i}.jpg" for i in IDS)}


def test_pictures_are_replaced_only_where_it_is_said(
    tmp_path: Path, photographs: list[Path]
) -> None:
    out = tmp_path / "shown"
    show_run(judged(), photographs, out, ShowConfig(crops=False))
    with pytest.raises(InputError, match="is not empty: name another folder, or say --overwrite"):
        show_run(judged(), photographs, out, ShowConfig())
    again = ShowConfig(picture="png", crops=False, overwrite=True)
    show_run(judged(), photographs, out, again)
    assert sorted(path.name for path in (out / "images").iterdir()) == ["a.png", "sub"]
    (out / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match=r"did not write: name another folder, got mine\.txt"):
        show_run(judged(), photographs, out, again)
    assert (out / "mine.txt").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "shown"}


def test_what_breaks_half_way_leaves_what_was_there(tmp_path: Path) -> None:
    out = tmp_path / "shown"
    out.mkdir()
    (out / "index.csv").write_text("before")

    def break_off() -> None:
        with picture_folder(out, overwrite=True) as folder:
            (folder / "index.csv").write_text("after")
            raise KeyError

    with pytest.raises(KeyError):
        break_off()
    assert (out / "index.csv").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["shown"]


@given(st.lists(st.text(st.characters(), max_size=300), min_size=1, max_size=8, unique=True))
def test_no_name_leads_out_of_the_folder_or_meets_another(ids: list[str]) -> None:
    names = safe_names(ids)
    assert len({str(name).casefold() for name in names}) == len(ids)
    for name in names:
        assert not name.is_absolute()
        assert ".." not in name.parts
        for part in name.parts:
            assert part.isprintable()
            assert 0 < len(part.encode()) <= 200


def test_names_stay_readable_where_they_can() -> None:
    long = "x" * 255
    names = [
        str(name) for name in safe_names(["a b.jpg", "sub/é.png", "../x", "A B.jpg", "a\nb", long])
    ]
    assert names[:3] == ["a b.jpg", "sub/é.png", "%2E%2E/x"]
    assert names[3].startswith("A B.jpg~")
    assert names[4] == "a%0Ab"
    assert len(names[5]) < 200
    assert picture_name(PurePosixPath("s/a.jpg"), ".jpg") == PurePosixPath("s/a.jpg")
    assert picture_name(PurePosixPath("s/a.png"), ".jpg") == PurePosixPath("s/a.png.jpg")


def test_odd_names_are_written_inside_the_folder(tmp_path: Path, photographs: list[Path]) -> None:
    ids = ("../../up.png", "[/red]\n.png", "b" * 251 + ".png")
    show_run(judged(ids), photographs, tmp_path / "o" / "shown", ShowConfig())
    assert [path.name for path in (tmp_path / "o").iterdir()] == ["shown"]
    assert len(list((tmp_path / "o" / "shown" / "images").rglob("*.jpg"))) == 3


def test_a_wrong_setting_names_its_field() -> None:
    with pytest.raises(InputError, match="field picture: must be one of jpg, png"):
        ShowConfig(picture="gif")
    with pytest.raises(InputError, match="max_megapixels"):
        ShowConfig(max_megapixels=float("nan"))


@pytest.mark.parametrize("size", [(1, 1), (3, 400), (500, 2)])
def test_the_smallest_and_narrowest_images_are_drawn(tmp_path: Path, size: tuple[int, int]) -> None:
    files = [tmp_path / f"{i}.png" for i in range(3)]
    for file in files:
        Image.new("RGB", size, (90, 90, 90)).save(file)
    written = show_run(judged(), files, tmp_path / "shown", ShowConfig(picture="png"))
    assert (written.pictures, written.crops) == (3, 9)
    with Image.open(tmp_path / "shown/images/a.png") as picture:
        assert picture.width == size[0]
        assert picture.height > size[1]
