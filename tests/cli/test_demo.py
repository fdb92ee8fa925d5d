from pathlib import Path

import pytest

from smallobj.boxes import InputError
from smallobj.cli.demo import demo
from smallobj.cli.main import main
from smallobj.ensemble import read_recipe


@pytest.mark.slow
def test_the_tuned_ensemble_finds_defects(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["demo", str(tmp_path / "demo")])
    assert not ended.value.code
    printed = capsys.readouterr().out
    for row in ("centernet alone", "fcos alone", "centernet, TTA", "fcos, TTA", "tuned ensemble"):
        assert row in printed
    assert read_recipe(tmp_path / "demo" / "recipe.toml").scores["out_of_fold"] >= 0.30


def test_a_folder_with_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="is not empty"):
        demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
