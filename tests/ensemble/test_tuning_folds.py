from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from smallobj.boxes import BoxTable, InputError
from smallobj.ensemble.folds import Fits, read_groups
from smallobj.ensemble.judge import Held, Judged

IDS = ("a/1.png", "a/2.png", "b/1.png", "b/2.png", "c/1.png", "d/1.png")


def test_a_fit_sees_every_image_but_those_of_its_fold(
    random_tables: Callable[..., list[BoxTable]],
) -> None:
    truth = random_tables(np.random.default_rng(0), images=20, runs=1)[0]
    groups = [str(image // 2) for image in range(20)]
    fits = Fits.deal(truth, 4, seed=1, groups=groups)
    assert len(fits) == 5
    assert fits.own(0).all()
    assert not fits.held_out(0).any()
    for fit in range(1, 5):
        assert (fits.own(fit) != fits.held_out(fit)).all()
        assert (fits.own(fit)[::2] == fits.own(fit)[1::2]).all()
    assert np.sum([fits.held_out(fit) for fit in range(1, 5)], axis=0).tolist() == [1] * 20
    assert fits.parts([2]).tolist() == [fits.own(2).tolist(), fits.held_out(2).tolist()]
    assert fits.parts().shape == (10, 20)


def test_groups_are_found_by_a_pattern_or_in_a_file(tmp_path: Path) -> None:
    expected = ["a", "a", "b", "b", "c", "d"]
    assert read_groups("^([^/]+)/", IDS) == expected
    path = tmp_path / "groups.csv"
    rows = [f"{image}, {group}" for image, group in zip(IDS, expected, strict=True)]
    for head in ([], ["image,group"]):
        path.write_text("\n".join([*head, *rows, "other.png,e", ""]))
        assert read_groups(str(path), IDS) == expected


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a/1.png,a", "item a/2.png: image has no group in this file"),
        ("a/1.png", "field line 1: a line is image,group, got a/1.png"),
        ("a/1.png,", "field line 1: a line is image,group"),
        ("a/1.png,a\na/1.png,b", "item a/1.png: image stands in two groups"),
    ],
)
def test_a_faulty_file_of_groups_is_told(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "groups.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=said) as caught:
        read_groups(str(path), IDS)
    assert caught.value.file == path


def _judged(every: float, small: float, *, spread: float = 0.001) -> Judged:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, spread, (2, 500)) * (1 + 0.1 * every)
    return Judged(
        every=Held(scores=np.full(2, every), draws=every + noise),
        small=Held(scores=np.full(2, small), draws=small + noise),
    )


def test_a_step_pays_where_it_surely_gains_and_small_objects_do_not_pay_for_it() -> None:
    single = _judged(0.6, 0.5)
    before = _judged(0.7, 0.55)
    assert _judged(0.72, 0.56).pays(before, single) == ""
    assert _judged(0.72, 0.52).pays(before, single) == ""  # still above the best run
    assert "no gain" in _judged(0.7, 0.56).pays(before, single)
    assert "no gain" in _judged(0.69, 0.56).pays(before, single)
    assert "32 px" in _judged(0.72, 0.45).pays(before, single)


def test_a_gain_that_draws_do_not_show_does_not_pay() -> None:
    rng = np.random.default_rng(1)
    draws = rng.normal(0.7, 0.05, (2, 2, 500))
    before, after = (
        Judged(every=held, small=held)
        for held in (
            Held(scores=np.full(2, score), draws=d)
            for score, d in zip((0.7, 0.701), draws, strict=True)
        )
    )
    assert "chance" in after.pays(before, before)


def test_folds_without_a_box_do_not_count() -> None:
    draws = np.array([[0.5, 0.7], [np.nan, np.nan]])
    held = Held(scores=np.array([0.6, np.nan]), draws=draws)
    lower = Held(scores=np.array([0.5, np.nan]), draws=draws - 0.1)
    assert held.mean == 0.6
    assert held.above(lower) == pytest.approx((0.1, 0.1, 0.1))
    nothing = Held(scores=np.full(2, np.nan), draws=np.full((2, 2), np.nan))
    assert np.isnan(nothing.above(nothing)).all()
