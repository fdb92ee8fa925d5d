"""A TOML file that cannot be read is named in one line, with the reason."""

from pathlib import Path

import pytest

from smallobj.boxes import InputError, read_toml


def test_what_was_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('name = "nüt"\n[part]\nsides = [1, 2.5]\n', encoding="utf-8")
    assert read_toml(file) == {"name": "nüt", "part": {"sides": [1, 2.5]}}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"name = ", "is not TOML: "),
        (b"name = '\xff'", "is not TOML: not UTF-8 text"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    file = tmp_path / "a.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_toml(file)
    assert str(caught.value).startswith(f"{file}: {said}")
    assert "\n" not in str(caught.value)
