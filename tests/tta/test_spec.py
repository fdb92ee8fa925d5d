"""The words of `--views`."""

from pathlib import Path

import pytest

from smallobj.boxes import InputError
from smallobj.cli.predict import VIEWS_HELP
from smallobj.tta import KNOWN, Tiling, parse_views, view_named

TILES = Tiling(side_px=640, overlap_px=64)


def names(spec: str, tiling: Tiling | None = None) -> list[str]:
    return [view.name for view in parse_views(spec, tiling=tiling)]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("identity", ["identity"]),
        ("hflip", ["identity", "hflip"]),
        ("hflip|vflip", ["identity", "hflip", "vflip"]),
        ("hflip,vflip", ["identity", "vflip", "hflip", "rot180"]),
        ("scale=0.75", ["identity", "scale=0.75"]),
        ("only:scale=0.75", ["scale=0.75"]),
        ("only:scale=0.75|1.5", ["scale=0.75", "scale=1.5"]),
        ("hflip,scale=0.75|1", ["identity", "scale=0.75", "hflip", "hflip,scale=0.75"]),
        (" hflip , only: scale=0.75 | 1 ", ["scale=0.75", "identity", "hflip,scale=0.75", "hflip"]),
        ("flips", ["identity", "hflip", "vflip", "rot180"]),
        ("hflip|scale=2", ["identity", "hflip", "scale=2"]),
        ("whole=320", ["identity", "whole=320"]),
        ("squash=300", ["identity", "squash=300"]),
        (
            "only:squash=300|320,hflip",
            ["squash=300", "hflip,squash=300", "squash=320", "hflip,squash=320"],
        ),
        ("only:squash=300,scale=1", ["squash=300"]),
        ("only:squash=300|tile=64:8|whole=90", ["squash=300", "tile=64:8", "whole=90"]),
        ("tile=100", ["identity", "tile=100:20"]),
        ("only:tile=100:30|200", ["tile=100:30", "tile=200:40"]),
        ("only:vflip,rot180", ["vflip", "hflip"]),
        ("brightness=0.8|1|1.2", ["identity", "brightness=0.8", "brightness=1.2"]),
        ("hflip,contrast=1.5", ["identity", "contrast=1.5", "hflip", "hflip,contrast=1.5"]),
        ("only:brightness=2,only:contrast=0.5", ["brightness=2,contrast=0.5"]),
        ("brightness=0.8|scale=2|3", ["identity", "brightness=0.8", "scale=2", "scale=3"]),
        (
            "hflip,scale=0.75|1|1.25",
            [
                "identity",
                "scale=0.75",
                "scale=1.25",
                "hflip",
                "hflip,scale=0.75",
                "hflip,scale=1.25",
            ],
        ),
    ],
)
def test_commas_multiply_and_bars_list(spec: str, expected: list[str]) -> None:
    assert names(spec) == expected


def test_d4_is_all_eight_and_twice_d4_is_d4() -> None:
    assert len(names("d4")) == 8
    assert sorted(names("d4,d4")) == sorted(names("d4"))


def test_tiles_combine_with_every_view() -> None:
    assert names("hflip,whole", TILES) == [
        "tile=640:64",
        "whole=640",
        "hflip,tile=640:64",
        "hflip,whole=640",
    ]
    assert names("only:tile=320", TILES) == ["tile=320:64"]


def test_squashed_is_what_a_view_is_that_does_not_say_otherwise() -> None:
    views = parse_views("hflip,tile=100|whole=200|squash=400", squash_px=300)
    assert [view.name for view in views] == [
        "squash=300",
        "tile=100:20",
        "whole=200",
        "squash=400",
        "hflip,squash=300",
        "hflip,tile=100:20",
        "hflip,whole=200",
        "hflip,squash=400",
    ]
    with pytest.raises(InputError, match=r"no scale: name squash=N .*got scale=0\.75"):
        parse_views("scale=0.75|1", squash_px=300)


@pytest.mark.parametrize(
    "spec",
    [
        "hflip",
        "d4,squash=300,brightness=0.8",
        "flips,scale=0.75|1.5",
        "hflip,whole=300",
        "only:scale=2,only:tile=64:16",
        "d4,scale=0.33333333333333|1.2345678,brightness=0.8|1.2,contrast=0.7,whole=90|tile=64:9",
    ],
)
def test_a_name_parses_to_its_view(spec: str) -> None:
    for view in parse_views(spec):
        assert view_named(view.name) == view


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("flips", "names several views, not one"),
        ("hflip|vflip", "names several views, not one"),
        ("scale=2,hflip", "the view is called hflip,scale=2"),
        ("tile=64", "the view is called tile=64:12"),
        ("mirror", "unknown view"),
    ],
)
def test_a_text_that_is_no_name_of_a_view_is_refused(name: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        view_named(name)


def test_every_word_multiplies_with_tiles_and_none_is_lost() -> None:
    views = parse_views("d4,scale=0.75|1.25,brightness=0.8|1.2,contrast=0.9,whole", tiling=TILES)
    assert len(views) == len({view.name for view in views}) == 8 * 3 * 3 * 2 * 2
    assert sum(view.tiling == TILES for view in views) == len(views) // 2
    assert sum(view.whole_px == 640 for view in views) == len(views) // 2


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("mirror", "known: identity, hflip"),
        ("", "unknown view"),
        ("hflip,", "unknown view"),
        ("hflip||vflip", "unknown view"),
        ("hflip=1", "unknown view"),
        ("0.75", "unknown view"),
        ("hflip|0.75", "unknown view"),
        ("scale", "unknown view"),
        ("scale=0", "1/16 to 16"),
        ("scale=nan", "1/16 to 16"),
        ("scale=1e9", "1/16 to 16"),
        ("scale=-1", "1/16 to 16"),
        ("scale=0.5,scale=2", "two factors"),
        ("brightness", "unknown view"),
        ("brightness=0", "brightness is a number from 1/4 to 4"),
        ("contrast=nan", "contrast is a number from 1/4 to 4"),
        ("contrast=5", "contrast is a number from 1/4 to 4"),
        ("contrast=0.5,contrast=2", "contrast stands in two factors"),
        ("brightness=0.5,brightness=2", "brightness stands in two factors"),
        ("tile=64,whole=64", "two factors"),
        ("tile=64:64", "between 0 and"),
        ("tile=ten", "whole number"),
        ("whole=0", "at least 1"),
        ("whole", "whole needs tiles"),
        ("squash=0", "1 to 8192 pixels, got 0"),
        ("squash=8193", "1 to 8192 pixels"),
        ("squash=-3", "whole number of pixels"),
        ("squash", "unknown view"),
        ("squash=300,tile=64", "tile, whole or squash stands in two factors"),
        ("whole=90,squash=300", "two factors"),
        ("squash=300,scale=0.5", "a squashed image has no scale"),
        ("scale=2,only:squash=300", "a squashed image has no scale"),
        ("[/red]\n", "unknown view"),
    ],
)
def test_what_is_unknown_or_cannot_be_is_refused(spec: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        parse_views(spec)
    assert "\n" not in str(caught.value)


def test_the_documentation_and_the_help_name_every_word() -> None:
    page = (Path(__file__).parents[2] / "docs" / "views.md").read_text()
    for word in KNOWN:
        assert f"`{word}`" in page
        assert word in VIEWS_HELP.replace("\n", " ")
