from pathlib import Path

import numpy as np
import pytest

from smallobj.boxes import InputError
from smallobj.report.heatmap import plot_heatmap


def _plot(out: Path, values: np.ndarray, chosen: tuple[int, int] | None = None) -> None:
    rows, columns = np.linspace(0.4, 0.8, len(values)), np.geomspace(0.001, 0.1, values.shape[1])
    plot_heatmap(
        out,
        values=values,
        rows=rows.tolist(),
        columns=columns.tolist(),
        row_name="IoU",
        column_name="skip",
        title="map50 in $",
        chosen=chosen,
    )


@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (0, 0)])
@pytest.mark.parametrize("ending", ["svg", "png"])
def test_a_picture_is_drawn_of_any_number_of_cells(
    tmp_path: Path, shape: tuple[int, int], ending: str
) -> None:
    values = np.linspace(0.1, 0.9, max(1, shape[0] * shape[1]))[: shape[0] * shape[1]]
    _plot(tmp_path / f"map.{ending}", values.reshape(shape), (0, 0) if shape[0] else None)
    head = (tmp_path / f"map.{ending}").read_bytes()[:100]
    assert b"<?xml" in head if ending == "svg" else head.startswith(b"\x89PNG")


def test_cells_where_nothing_is_known_stay_empty(tmp_path: Path) -> None:
    _plot(tmp_path / "map.svg", np.full((2, 2), np.nan))
    assert (tmp_path / "map.svg").stat().st_size > 1000


def test_an_ending_that_is_no_picture_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a picture ends in"):
        _plot(tmp_path / "map.txt", np.ones((1, 1)))
