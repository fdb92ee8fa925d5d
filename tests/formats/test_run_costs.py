"""What runs cost, alone and together."""

from pathlib import Path

import pytest

from smallobj.boxes import Classes, InputError
from smallobj.formats import RunInfo, cost_of, read_run_info, sum_costs, write_run_info

CARS = Classes.of(["car"])


def info(model: str, mb: float | None, ms: float | None, fold: str | None = None) -> RunInfo:
    return RunInfo(model=model, classes=CARS, weight_mb=mb, latency_ms=ms, fold=fold)


def test_costs_are_written_and_read_and_files_without_them_still_are(tmp_path: Path) -> None:
    path = tmp_path / "a.run.toml"
    write_run_info(path, info("a", 68.3, 12.5))
    assert read_run_info(path) == info("a", 68.3, 12.5)
    path.write_text('model = "a"\nviews = []\n[classes]\nnames = ["car"]\nids = [0]\n')
    assert read_run_info(path) == info("a", None, None)


@pytest.mark.parametrize("value", ["-1", "inf", "nan", "true", "'12'"])
@pytest.mark.parametrize("name", ["weight_mb", "latency_ms"])
def test_a_cost_that_cannot_be_is_refused(name: str, value: str, tmp_path: Path) -> None:
    path = tmp_path / "a.run.toml"
    content = '\n[classes]\nnames = ["car"]\nids = [0]\n'
    path.write_text(f'model = "a"\n{name} = {value}{content}')
    with pytest.raises(InputError, match=f"field {name}: has to be a number from 0 up"):
        read_run_info(path)


def total(*infos: RunInfo | None) -> tuple[float | None, float | None]:
    return sum_costs([cost_of(info, f"run-{i}") for i, info in enumerate(infos)])


def test_costs_of_different_models_and_of_folds_add_up() -> None:
    assert total(info("a", 10, 5), info("b", 2.5, 1)) == (12.5, 6)
    assert total(info("a", 10, 5, "0"), info("a", 10, 7, "1")) == (20, 12)


def test_runs_of_one_model_share_its_weights_but_not_their_time() -> None:
    assert total(info("a", 10, 5), info("a", None, 20)) == (10, 25)


def test_a_sum_with_an_unknown_part_is_unknown() -> None:
    assert total(info("a", 10, 5), info("b", None, 1)) == (None, 6)
    assert total(info("a", 10, 5), None) == (None, None)
