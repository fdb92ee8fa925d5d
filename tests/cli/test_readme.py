"""The README's commands, run as printed on real scans, only shorter: from labels to an answer."""

import json
import re
import shlex
from pathlib import Path

import pytest

from smallobj.cli.demo import _NOTES
from smallobj.cli.main import main
from smallobj.datasets.shipped import DEEPPCB

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
SHORT = ("--size", "tiny", "--crop", "96", "--batch", "4", "--steps", "6")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with `photos` (12 to learn from, 6 to validate on) and `new`."""
    for part, count in (("train", 12), ("val", 6)):
        for image in sorted((DEEPPCB / "images" / part).glob("*.png"))[:count]:
            for path in (image, DEEPPCB / "labels" / part / f"{image.stem}.txt"):
                copy = tmp_path / "photos" / path.relative_to(DEEPPCB)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(path.read_bytes())
    (tmp_path / "photos" / "data.yaml").write_bytes((DEEPPCB / "data.yaml").read_bytes())
    (tmp_path / "new").symlink_to(tmp_path / "photos" / "images" / "val")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def arguments(line: str) -> list[str]:
    """A printed command's arguments: its globs expanded, its training made short."""
    words = shlex.split(line)
    assert words.pop(0) == "smallobj"
    if words[0] == "train":
        limit = words.index("--time-limit")
        words[limit : limit + 2] = SHORT
    expanded: list[str] = []
    for word in words:
        expanded += sorted(map(str, Path().glob(word))) if "*" in word else [word]
    return expanded


def run(words: list[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return int(ended.value.code or 0)


def test_the_commands_lead_from_labels_to_a_capped_answer(photos: Path) -> None:
    for line in BLOCKS[2].strip().splitlines():
        assert run(arguments(line)) == 0, line
    answer = json.loads((photos / "answer.json").read_text())
    assert sorted(answer) == sorted(path.name for path in (photos / "new").iterdir())
    for rows in answer.values():
        assert 0 < len(rows) <= 100
        for label, x, y, width, height, score in rows:
            assert label in range(6)
            assert 0 <= x < x + width <= 640
            assert 0 <= y < y + height <= 640
            assert 0 <= score <= 1
    scores = json.loads((photos / "scores.json").read_text())["runs"]
    assert [run["name"] for run in scores] == ["fused", "centernet", "fcos"]
    assert (photos / "photos.png").stat().st_size > 1000


def test_the_readme_opens_with_two_commands() -> None:
    for block, last in ((BLOCKS[0], "smallobj demo"), (BLOCKS[1], "-m pytest")):
        assert block.count("\n") == 1
        assert block.strip().endswith(last)


def test_the_demo_prints_commands_of_the_readme() -> None:
    printed = [line.strip() for line in _NOTES.splitlines() if line.startswith("  smallobj")]
    assert len(printed) > 5
    assert set(printed) <= set(BLOCKS[2].splitlines())
