from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from smallobj.boxes import BoxTable, Classes, Images, InputError
from smallobj.ensemble import (
    FusionConfig,
    Recipe,
    model_names,
    read_recipe,
    write_recipe,
)
from smallobj.ensemble.calibration import fit_calibration
from smallobj.ensemble.operating_point import choose_thresholds
from smallobj.formats import RunInfo, read_runs

RECIPE = Recipe(
    models=("fcos", "centernet", "weak"),
    config=FusionConfig(iou=0.6, skip=0.01, conf_type="max", weights=(2, 1, 0)),
    metric="map50",
    scores={"out_of_fold": 0.5},
)


@pytest.mark.parametrize("cap", [100, None])
def test_a_recipe_comes_back_as_it_was_written(tmp_path: Path, cap: int | None) -> None:
    config = FusionConfig(iou=0.6, weights=(2.5, 1.0), max_detections=cap, allows_overflow=True)
    recipe = Recipe(models=('a "quoted" id', "b"), config=config, scores={"out_of_fold": 0.25})
    write_recipe(tmp_path / "recipe.toml", recipe)
    assert read_recipe(tmp_path / "recipe.toml") == recipe


def test_models_are_chosen_by_id_in_the_order_of_the_recipe() -> None:
    index, config = RECIPE.choose(["centernet", "weak", "fcos"])
    assert index == [2, 0]
    assert config.weights == (2, 1)
    assert (config.iou, config.conf_type) == (0.6, "max")


def test_a_model_of_weight_zero_need_not_be_there() -> None:
    assert RECIPE.choose(["fcos", "centernet"])[0] == [0, 1]


def test_missing_and_unknown_models_are_named() -> None:
    with pytest.raises(InputError, match="centernet"):
        RECIPE.choose(["fcos", "weak"])
    with pytest.raises(InputError, match="retina"):
        RECIPE.choose(["fcos", "centernet", "retina"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("iou = ", "is not TOML"),
        ("iou = 0.5", "unknown method"),
        ('kind = "views"', "is a recipe of views, which smallobj predict --recipe takes"),
        ('method = "wbf"', "names no models"),
        ('method = "wbf"\nmodel = [{id = "a"}]', r"model\[0\]"),
        ('method = "wbf"\niou = 3\nmodel = [{id = "a", weight = 1}]', "iou"),
        ('method = "wbf"\niou = "x"\nmodel = [{id = "a", weight = 1}]', "iou: has to be a number"),
        ('method = "wbf"\nskip = true\nmodel = [{id = "a", weight = 1}]', "skip: has to be a num"),
        ('method = "wbf"\nmodel = [{id = "a", weight = 1}, {id = "a", weight = 2}]', "twice"),
        ('method = "wbf"\nmodel = [{id = "a", weight = 0}]', "every weight is zero"),
        ("version = 3", "field version: known: 1 and 2, got 3"),
        ('version = 2\nuoi = 0.5\nmodel = [{id = "a", weight = 1}]', "field uoi: known: "),
        ('version = 2\nmodel = [{id = "a", weight = true}]', r"model\[0\]"),
        ('version = 2\nmodel = [{id = "a", weight = 1, view_of = "b"}]', r"model\[0\].view_of"),
        ('version = 2\nmodel = [{id = "a", weight = 1, nms_iou = "x"}]', r"model\[0\].nms_iou"),
        ('version = 2\nmetric = 3\nmodel = [{id = "a", weight = 1}]', "metric: has to be a text"),
        ('version = 2\nscores = 3\nmodel = [{id = "a", weight = 1}]', "scores: has to be a table"),
        (
            'version = 2\nmodel = [{id = "a", weight = 1}]\noperating_point = {goal = "f1"}',
            "field operating_point.iou",
        ),
    ],
)
def test_a_faulty_recipe_is_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(content)
    with pytest.raises(InputError, match=said) as caught:
        read_recipe(path)
    assert caught.value.file == path


def test_models_go_by_id_else_by_the_name_of_the_run(tmp_path: Path) -> None:
    classes = Classes.of(["cat"])
    paths = [tmp_path / f"{name}.json" for name in ("one", "two", "tta")]
    for path in paths:
        path.write_text('{"a.png": [[0, 1, 1, 5, 5, 0.5]]}')
    assert model_names(read_runs(paths)) == ("one", "two", "tta")
    from smallobj.formats import write_run_info

    for name, model in (("two", "fcos"), ("tta", "fcos"), ("one", "centernet")):
        write_run_info(tmp_path / f"{name}.run.toml", RunInfo(model=model, classes=classes))
    assert model_names(read_runs(paths)) == ("centernet", "two", "tta")


def test_a_recipe_of_the_first_version_is_read(tmp_path: Path) -> None:
    content = (
        'method = "wbf"\niou = 0.6\nskip = 0.01\nconf_type = "max"\nmax_detections = 100\n'
        'allows_overflow = false\nmetric = "map50"\n[scores]\nout_of_fold = 0.5\n'
        '[[model]]\nid = "fcos"\nweight = 2.0\n[[model]]\nid = "centernet"\nweight = 1.0\n'
        '[[model]]\nid = "weak"\nweight = 0\n'
    )
    (tmp_path / "recipe.toml").write_text(content)
    assert read_recipe(tmp_path / "recipe.toml") == RECIPE


def _table(images: int = 3) -> BoxTable:
    """A cat and a dog in each image, which the scores tell apart from nothing."""
    return BoxTable.build(
        images=Images.of([f"{n}.png" for n in range(images)]),
        classes=Classes.of(["cat", "dog"]),
        image_index=np.repeat(np.arange(images), 2),
        xyxy=np.tile([[1.0, 1, 5, 5], [20, 20, 40, 40]], (images, 1)),
        label=np.tile([0, 1], images).astype(np.int32),
        score=np.linspace(0.2, 0.9, 2 * images),
    )


def test_calibrations_and_a_working_point_come_back(tmp_path: Path) -> None:
    table = _table()
    truth = replace(table.filter_rows(np.arange(len(table)) > 1), score=None)
    calibration = fit_calibration(truth, table, method="platt", by=("size",))
    recipe = Recipe(
        models=("a", "b", "c"),
        config=FusionConfig(
            method="nmw", weights=(1, 0, 2), nms_iou=(0.5, 1, 0.7), models=(0, 1, 0), shift_px=2
        ),
        calibrations=(None, None, calibration),
        operating_point=choose_thresholds(truth, table, goal="precision=0.9"),
    )
    write_recipe(tmp_path / "recipe.toml", recipe)
    read = read_recipe(tmp_path / "recipe.toml")
    assert read == recipe
    index, config = read.choose(["c", "a"])
    assert index == [1, 0]
    assert (config.nms_iou, config.models, config.weights) == ((0.5, 0.7), (0, 0), (1, 2))
    raw, calibrated = read.prepare([table, table])
    assert raw is table
    assert calibrated == calibration.apply(table)
    with pytest.raises(ValueError, match="3 tables for 2 models"):
        read.prepare([table] * 3)


@pytest.mark.parametrize(
    ("confidence", "said"),
    [
        ("3", "field confidence: has to be a table"),
        ("{}", "is missing"),
        ("{runs = 1, offset = 0.0, middle = [], spread = [], slope = []}", "features"),
        (
            f"{{runs = 2, offset = 0.0, middle = {[0.0] * 16}, spread = {[1.0] * 16},"
            f" slope = {[0.0] * 16}}}",
            "confidence of 2 models, where 1 take part",
        ),
    ],
)
def test_a_faulty_confidence_is_refused(tmp_path: Path, confidence: str, said: str) -> None:
    path = tmp_path / "recipe.toml"
    content = f'version = 2\nconfidence = {confidence}\n[[model]]\nid = "a"\nweight = 1\n'
    path.write_text(content)
    with pytest.raises(InputError, match=said):
        read_recipe(path)


def test_a_faulty_calibration_names_its_model(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('version = 2\n[[model]]\nid = "a"\nweight = 1\n[model.calibration]\nby = []\n')
    with pytest.raises(InputError, match=r"field model\[0\]\.calibration\.part: is missing"):
        read_recipe(path)
