"""`smallobj runs`: folds joined into one run, and what runs hold."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from smallobj.cli.main import main
from smallobj.formats import RUN_KINDS, read_run, read_run_info

Smallobj = Callable[..., tuple[int, str, str]]

FILES = ("net-fold0.json", "net-fold1.json")
FOLDS = [
    {"10.jpg": [[0, 1, 1, 5, 5, 0.5]], "2.jpg": []},
    {"1.jpg": [[1, 2, 2, 5, 5, 0.25], [0, 2, 2, 5, 5, 0.75]]},
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with two folds of a model that name their classes."""
    monkeypatch.chdir(tmp_path)
    for fold, boxes in enumerate(FOLDS):
        Path(f"net-fold{fold}.json").write_text(json.dumps(boxes))
        write_toml(f"net-fold{fold}", fold=f'fold = "{fold}"\n')
    return tmp_path


def write_toml(name: str, fold: str = "", model: str = "", views: str = "plain") -> None:
    head = f'model = "{model or name}"\nviews = ["{views}"]\ncap = 300\nseconds = 1.5\n{fold}'
    costs = "weight_mb = 10.0\nlatency_ms = 2.0\n"
    classes = 'classes = {names = ["car", "bus"], ids = [0, 1]}\n'
    Path(f"{name}.run.toml").write_text(head + costs + classes)


@pytest.fixture
def smallobj(here: Path, capfd: pytest.CaptureFixture[str]) -> Smallobj:
    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        told = capfd.readouterr()
        return int(end.value.code or 0), told.out, told.err

    return run


def test_folds_become_one_run(smallobj: Smallobj) -> None:
    status, told, err = smallobj("runs", "join", *FILES, "--out", "net.json")
    assert (status, err) == (0, "")
    assert told == "net.json: net, 3 images, 3 boxes of 2 runs\n"
    assert json.loads(Path("net.json").read_text()) == {**FOLDS[1], "2.jpg": [], **FOLDS[0]}
    info = read_run_info(Path("net.run.toml"))
    assert (info.model, info.fold, info.views, info.cap) == ("net", "0, 1", ("plain",), 300)
    assert (info.seconds, info.weight_mb, info.latency_ms) == (3, 20, 4)
    assert info.classes.names == ("car", "bus")


def test_folds_without_a_toml_are_named_by_their_files(smallobj: Smallobj) -> None:
    for fold in (0, 1):
        Path(f"net-fold{fold}.run.toml").unlink()
    assert smallobj("runs", "join", *FILES, "--out", "net.json")[0] == 0
    info = read_run_info(Path("net.run.toml"))
    assert (info.model, info.fold, info.cap, info.weight_mb) == ("net", "0, 1", None, None)
    assert smallobj("runs", "join", *FILES, "--out", "b.json", "--model", "x")[0] == 0
    assert read_run_info(Path("b.run.toml")).model == "x"


def test_folds_of_any_kind_are_joined(smallobj: Smallobj) -> None:
    Path("photos").mkdir()
    for name in ("1", "2", "10"):
        Image.new("L", (64, 48)).save(f"photos/{name}.jpg")
    for kind, out in (("openimages", "a-0.csv"), ("yolo", "a-0"), ("parquet", "a-0.parquet")):
        arguments = ("--to", kind, "--images", "photos")
        assert smallobj("data", "convert", FILES[0], out, *arguments)[0] == 0
        joined = ("runs", "join", out, FILES[1], "--images", "photos", "--out", "b.parquet")
        assert smallobj(*joined, "--to", "parquet", "--model", "net")[0] == 0
        run = read_run(Path("b.parquet"))
        assert len(run.table) == 3
        assert run.table.images.width.tolist()[:1] == [64]


def test_overlapping_folds_are_refused(smallobj: Smallobj) -> None:
    Path("net-fold1.json").write_text('{"2.jpg": [], "10.jpg": [], "3.jpg": []}')
    status, _, err = smallobj("runs", "join", *FILES, "--out", "net.json")
    assert status == 2
    assert err == (
        "error: net-fold1.json: folds have no image in common, but net-fold0.json has 2 of these 3"
        " too: 2.jpg, 10.jpg\n"
    )
    assert not Path("net.json").exists()


def test_what_does_not_belong_together_is_refused(smallobj: Smallobj) -> None:
    join = ("runs", "join", *FILES, "--out", "net.json")
    write_toml("net-fold1", views="hflip")
    assert (
        "field views: has other views than net-fold0.json (plain), got hflip" in smallobj(*join)[2]
    )
    write_toml("net-fold1")
    toml = Path("net-fold1.run.toml")
    toml.write_text(toml.read_text().replace('"bus"', '"van"'))
    assert "has other classes than net-fold0.json, got bus, van" in smallobj(*join)[2]
    write_toml("net-fold1", model="other")
    assert smallobj(*join)[0] == 0  # the files are named alike
    assert "write elsewhere" in smallobj("runs", "join", *FILES, "--out", FILES[0])[2]
    assert smallobj("runs", "join", "--out", "x.json")[2] == "error: no runs given\n"
    assert "no runs given" in smallobj("runs", "info")[2]


def test_folds_without_a_name_in_common_need_one(smallobj: Smallobj) -> None:
    Path("x.json").write_text('{"7.jpg": []}')
    Path("y.json").write_text('{"8.jpg": []}')
    status, _, err = smallobj("runs", "join", "x.json", "y.json", "--out", "net.json")
    assert status == 2
    assert "no beginning in common (x, y); say --model" in err


def test_info_says_what_runs_hold(smallobj: Smallobj) -> None:
    Path("yolo").mkdir()
    Path("yolo/a.txt").write_text("4 .5 .5 .1 .1 .9\n")
    status, told, _ = smallobj("runs", "info", *FILES, "yolo", "--json", "runs.info")
    assert status == 0
    assert "yolo (fractions)" in told
    assert "0.25 to 0.75" in told
    first, second, third = json.loads(Path("runs.info").read_text())
    assert (first["model"], first["fold"], first["views"]) == ("net-fold0", "0", ["plain"])
    assert (first["images"], first["empty_images"], first["boxes"]) == (2, 1, 1)
    assert (second["boxes_an_image"], second["most_boxes"], second["classes"]) == (2, 2, 2)
    assert (third["kind"], third["unit"], third["model"]) == ("yolo", "normalised", None)
    assert (third["classes"], third["known_classes"]) == (1, 5)


@pytest.mark.parametrize("kind", RUN_KINDS)
@pytest.mark.parametrize("back", RUN_KINDS)
def test_convert_goes_from_every_kind_to_every_kind(
    kind: str, back: str, smallobj: Smallobj
) -> None:
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 64, "height": 48} for i in (1, 2)]
    categories = [{"id": 0, "name": "car"}, {"id": 1, "name": "bus"}]
    labels = {"images": images, "annotations": [], "categories": categories}
    Path("labels.json").write_text(json.dumps(labels))
    Path("a.json").write_text('{"1.jpg": [[1, 1, 2, 5.5, 6, 0.5]], "2.jpg": [[0, 1, 1, 3, 3, 1]]}')
    for source, out, to in (("a.json", "b", kind), ("b", "c", back), ("c", "d", "challenge")):
        arguments = (source, out, "--to", to, "--labels", "labels.json")
        assert smallobj("data", "convert", *arguments)[0] == 0
    table = read_run(Path("d")).table
    assert table.images.ids == ("1.jpg", "2.jpg")
    assert table.classes.names == ("car", "bus")
    assert table.xyxy.round(9).tolist() == [[1, 2, 6.5, 8], [1, 1, 4, 4]]
