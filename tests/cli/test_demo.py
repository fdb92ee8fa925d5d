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


def test_an_interrupted_demo_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an earlier demo had half predicted is of other weights and must not stop this one."""
    part = tmp_path / "runs" / "fcos-tta.part.jsonl"
    part.parent.mkdir()
    part.write_text("{}")

    def stop(_: object) -> dict[str, float]:
        raise KeyboardInterrupt

    monkeypatch.setattr("smallobj.cli.demo._run_all", stop)
    with pytest.raises(KeyboardInterrupt):
        demo(tmp_path, time_limit="1s", seed=0, overwrite=True)
    assert not part.exists()
