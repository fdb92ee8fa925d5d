"""Searching for views that pay, on candidates whose worth is known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smallobj.boxes import BoxTable, Classes, Images, InputError, Source
from smallobj.ensemble.folds import Fits
from smallobj.evaluation import map_score
from smallobj.prediction import (
    KeptViews,
    PredictConfig,
    ViewCosts,
    ViewPlan,
    ViewRecipe,
    ViewSearch,
    merge_kept,
    plain_place,
    read_view_recipe,
    search_views,
    time_views,
    write_view_recipe,
)
from smallobj.tta import SYMMETRIES, Light, Tiling, View, parse_views, view_named

CLASSES = Classes.of(["cell"])
NAMES = ("identity", "hflip", "vflip", "rot180")
IMAGES, WIDTH, HEIGHT = 24, 400, 100


def truth_of(images: int = IMAGES) -> BoxTable:
    """Six boxes of 20 px in a row in every image."""
    left = np.tile(60.0 * np.arange(6), images)
    xyxy = np.column_stack([left, np.full_like(left, 30), left + 20, np.full_like(left, 50)])
    return BoxTable.build(
        images=Images.of([f"{i}.png" for i in range(images)], [(WIDTH, HEIGHT)] * images),
        classes=CLASSES,
        image_index=np.repeat(np.arange(images), 6),
        xyxy=xyxy,
        label=np.zeros(len(xyxy), np.int32),
    )


def candidates(truth: BoxTable, find: dict[str, float], *, seed: int = 0) -> BoxTable:
    """Each view finds this share of the true boxes, within a pixel; below 0: only wrong boxes."""
    rng = np.random.default_rng(seed)
    parts = []
    for view, share in enumerate(find.values()):
        hit = rng.random(len(truth)) < abs(share)
        xyxy = truth.xyxy[hit] + rng.uniform(-1, 1, (int(hit.sum()), 4))
        if share < 0:
            xyxy[:, 1::2] += 45
        score = rng.uniform(0.3, 1.0, len(xyxy))
        parts.append((truth.image_index[hit], xyxy, score, np.full(len(xyxy), view)))
    image, xyxy, score, source = (np.concatenate(column) for column in zip(*parts, strict=True))
    return BoxTable.build(
        images=truth.images,
        classes=truth.classes,
        image_index=image,
        xyxy=xyxy,
        label=np.zeros(len(xyxy), np.int32),
        score=score,
        source=source,
        sources=tuple(Source("run", name) for name in find),
    )


def search(find: dict[str, float], plan: ViewPlan | None = None, **options) -> ViewSearch:
    truth = truth_of()
    kept = KeptViews(candidates(truth, find), tuple(find))
    seconds = options.pop("seconds_of", lambda views: float(len(views)))
    return search_views(kept, truth, seconds, plan, **options)


GOOD = dict(zip(NAMES, (0.6, 0.6, -0.8, 0.6), strict=True))


def names(found: ViewSearch) -> list[str]:
    return [view.name for view in found.chosen]


def test_views_that_see_what_the_plain_one_misses_are_added() -> None:
    found = search(GOOD)
    assert names(found) == ["identity", "hflip", "rot180"]
    assert found.best.gain.low > 0
    assert found.best.out_of_fold > found.plain.out_of_fold + 0.1
    assert [step.seconds for step in found.steps[:3]] == [1, 2, 3]
    assert found.best.gain.mean == pytest.approx(found.best.out_of_fold - found.plain.out_of_fold)


@pytest.mark.parametrize("other", [-0.8, 0.0])
def test_where_no_view_pays_the_plain_one_alone_is_chosen(other: float) -> None:
    found = search({"identity": 0.9, "hflip": other, "vflip": other})
    assert names(found) == ["identity"]
    assert found.best is found.plain
    assert found.recipe("m").scores["gain"] == 0


def test_what_is_taken_never_scores_below_the_plain_view_out_of_fold() -> None:
    for seed in range(2):
        truth = truth_of(15)
        rng = np.random.default_rng(seed)
        find = dict(zip(NAMES, rng.uniform(0.3, 0.7, 4).tolist(), strict=True))
        kept = KeptViews(candidates(truth, find, seed=seed), NAMES)
        found = search_views(kept, truth, len, ViewPlan(folds=3, seed=seed))
        taken = [step.out_of_fold for step in found.steps if step.accepted]
        assert taken == sorted(taken)


@pytest.mark.parametrize("merge", ["wbf", "nms", "nmw"])
def test_a_set_scores_what_its_merged_boxes_score(merge: str) -> None:
    truth = truth_of()
    table = candidates(truth, GOOD)
    found = search_views(KeptViews(table, NAMES), truth, len, ViewPlan(merges=(merge,)))
    assert len(found.steps) > 1
    for step in found.steps:
        views = found.named(step.chosen[0])
        merged = merge_kept(table, NAMES, PredictConfig(views=views, merge=merge))
        assert map_score(truth, merged) == pytest.approx(step.all_images, abs=1e-12)


def test_out_of_fold_is_what_the_others_choose_scored_on_the_fold() -> None:
    truth = truth_of()
    table = candidates(truth, GOOD)
    plan = ViewPlan(folds=4, seed=3)
    found = search_views(KeptViews(table, NAMES), truth, len, plan)
    fits = Fits.deal(truth, 4, seed=3)
    assert (found.fold == fits.fold).all()
    for step in found.steps:
        scores = []
        for fit in range(1, 5):
            views = found.named(step.chosen[fit])
            merged = merge_kept(table, NAMES, PredictConfig(views=views))
            held = np.flatnonzero(fits.held_out(fit))
            scores.append(map_score(truth.take_images(held), merged.take_images(held)))
            own = np.flatnonzero(fits.own(fit))
            in_sample = map_score(truth.take_images(own), merged.take_images(own))
            assert in_sample == pytest.approx(step.own[fit], abs=1e-12)
        assert np.mean(scores) == pytest.approx(step.out_of_fold, abs=1e-12)


def test_a_search_is_the_same_again_and_scores_no_set_twice(monkeypatch) -> None:
    merged: list[tuple] = []
    whole = KeptViews.merged

    def counted(self, views, **options) -> BoxTable:
        if options.get("images") is None:
            merged.append((tuple(views), options["nms_iou"], options["merge"]))
        return whole(self, views, **options)

    monkeypatch.setattr(KeptViews, "merged", counted)
    plan = ViewPlan(nms_ious=(0.5, 0.3), merges=("wbf", "nmw"))
    one = search(GOOD, plan)
    assert len(merged) == len(set(merged)) == one.sets
    assert search(GOOD, plan).as_dict() == one.as_dict()


def test_settings_are_chosen_with_the_views() -> None:
    """Each object is seen twice by the plain view, at an IoU of about 0.4."""
    truth = truth_of()
    double = doubled(candidates(truth, {"identity": 0.9, "hflip": 0.9}))
    plan = ViewPlan(nms_ious=(0.5, 0.3))
    found = search_views(KeptViews(double, ("identity", "hflip")), truth, len, plan)
    assert [step.name for step in found.steps[:2]] == ["plain view", "settings"]
    assert found.steps[1].accepted
    assert found.recipe("m").nms_iou == 0.3
    assert found.plain.chosen[0].nms_iou == 0.5


def doubled(table: BoxTable) -> BoxTable:
    assert table.score is not None
    assert table.source is not None
    return BoxTable.build(
        images=table.images,
        classes=table.classes,
        image_index=np.tile(table.image_index, 2),
        xyxy=np.concatenate([table.xyxy, table.xyxy + np.array([8, 0, 8, 0])]),
        label=np.tile(table.label, 2),
        score=np.concatenate([table.score, table.score * 0.9]),
        source=np.tile(table.source, 2),
        sources=table.sources,
    )


def test_images_of_a_group_stay_together() -> None:
    groups = [str(image // 4) for image in range(IMAGES)]
    fold = search(GOOD, ViewPlan(groups=groups, folds=3)).fold.reshape(-1, 4)
    assert (fold == fold[:, :1]).all()
    assert set(fold[:, 0]) == {0, 1, 2}


def test_limits_hold_and_the_pool_is_kept_to() -> None:
    assert len(search(GOOD, ViewPlan(max_views=2)).chosen) == 2
    assert len(search(GOOD, ViewPlan(max_seconds=2.5)).chosen) == 2
    assert names(search(GOOD, pool=(0, 2, 3))) == ["identity", "rot180"]
    with pytest.raises(InputError, match="plain view alone takes 1 s an image"):
        search(GOOD, ViewPlan(max_seconds=0.5))


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"metric": "map"}, "metric"),
        ({"nms_ious": (0.0,)}, "nms_iou"),
        ({"nms_ious": (0.5, 0.5)}, "nms_iou"),
        ({"merges": ("mean",)}, "merge"),
        ({"max_views": 0}, "max_views"),
        ({"max_seconds": 0.0}, "max_seconds_per_image"),
    ],
)
def test_a_plan_that_cannot_be_names_its_field(values: dict, field: str) -> None:
    with pytest.raises(InputError) as caught:
        ViewPlan(**values)
    assert caught.value.field == field


def test_labels_without_boxes_or_too_few_images_are_refused() -> None:
    truth = truth_of()
    kept = KeptViews(candidates(truth, GOOD), NAMES)
    empty = BoxTable.empty(truth.images, truth.classes, scored=False)
    with pytest.raises(InputError, match="no boxes"):
        search_views(kept, empty, len)
    with pytest.raises(InputError, match="24 images are too few"):
        search_views(kept, truth, len, ViewPlan(folds=25))


def test_the_plain_view_is_found_and_something_beside_it() -> None:
    tiles = Tiling(side_px=64, overlap_px=16)
    assert plain_place(parse_views("scale=0.5|2,hflip", tiling=tiles)) == 0
    assert plain_place((*parse_views("only:hflip"), *parse_views("identity"))) == 1
    assert plain_place(parse_views("hflip", squash_px=96)) == 0
    with pytest.raises(InputError, match="plain view, with which every search begins"):
        plain_place(parse_views("only:hflip|vflip"))
    with pytest.raises(InputError, match="nothing to choose from"):
        plain_place(parse_views("identity"))


def test_views_that_come_to_the_same_cost_once() -> None:
    """A small image is one tile, so that it is seen whole by both views."""
    truth = truth_of(2)
    small = replace(truth.images, width=np.array([WIDTH, 60]), height=np.array([HEIGHT, 60]))
    views = ("tile=64:16", "whole=64", "hflip,tile=64:16")
    empty = BoxTable.empty(small, CLASSES, scored=True)
    table = replace(
        empty, source=np.empty(0, np.int32), sources=tuple(Source("", name) for name in views)
    )
    costs = ViewCosts(KeptViews(table, views), np.array([1.0, 10.0, 1.0]), stride=8)
    patches = view_named(views[0]).patches(WIDTH, HEIGHT)
    tiles = sum(-(-p.height // 8) * 8 * -(-p.width // 8) * 8 for p in patches)
    assert costs((0,)) == pytest.approx((tiles + 64 * 64) / 2)
    whole = 10.0 * 64 * 16
    assert costs((0, 1)) == pytest.approx((tiles + whole + 64 * 64) / 2)
    assert costs((0, 2)) == pytest.approx(2 * costs((0,)))


def test_every_view_is_timed(finder, picture, tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for i, path in enumerate(paths):
        picture(path, 120, 90, seed=i)
    views = parse_views("scale=1|3")
    told: list[tuple[int, int]] = []
    seconds = time_views(
        finder, paths, views, PredictConfig(), on_progress=lambda *said: told.append(said)
    )
    assert seconds.shape == (2,)
    assert (seconds > 0).all()
    assert told[-1] == (4, 4)
    # warm-up, then two passes, for each view
    sizes = [size[2:] for size in finder.batches]
    assert sizes.count((96, 120)) == sizes.count((272, 360)) == 3


VIEWS = st.builds(
    View,
    symmetry=st.sampled_from(list(SYMMETRIES.values())),
    scale=st.floats(1 / 16, 16),
    tiling=st.none()
    | st.builds(Tiling, side_px=st.integers(200, 99999), overlap_px=st.integers(0, 199)),
    light=st.builds(Light, brightness=st.floats(0.25, 4), contrast=st.floats(0.25, 4)),
)


@settings(max_examples=50, deadline=None)
@given(st.lists(VIEWS, min_size=1, max_size=5, unique=True))
def test_a_recipe_comes_back_as_it_was_written(tmp_path_factory, views: list[View]) -> None:
    path = tmp_path_factory.mktemp("recipe") / "views.toml"
    recipe = ViewRecipe(
        model='a "quoted" id',
        views=tuple(views),
        nms_iou=0.45,
        merge="nmw",
        metric="map75",
        scores={"out_of_fold": 0.25},
        seconds_per_image=0.125,
        code_revision="abc+",
    )
    write_view_recipe(path, recipe)
    assert read_view_recipe(path, model='a "quoted" id') == recipe


WHOLE = (
    'kind = "views"\nversion = 1\nmodel = "m"\nviews = ["hflip"]\nnms_iou = 0.5\nmerge = "wbf"\n'
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("views = ", "is not TOML"),
        ('iou = 0.5\nmodel = [{id = "a", weight = 1}]', "recipe of fusion, which smallobj fuse"),
        ('model = "m"', "is no recipe of smallobj views search"),
        (WHOLE.replace("views", "sounds", 1), "field kind: is no recipe of smallobj views search"),
        (WHOLE.replace('"m"', '"n"'), "field model: is a recipe for another model than m, got n"),
        (WHOLE.replace("version = 1", "version = 2"), "field version: has to be 1, got 2"),
        (WHOLE.replace("hflip", "mirror"), "field views: unknown view; known: .*, got mirror"),
        (WHOLE.replace("hflip", "flips"), "field views: names several views, not one, got flips"),
        (WHOLE.replace("hflip", "scale=1.50"), "field views: the view is called scale=1.5"),
        (WHOLE.replace('"hflip"', '"hflip", "hflip"'), "field views: a view stands twice"),
        (WHOLE.replace('"hflip"', ""), "field views: has to be a list of names"),
        (WHOLE.replace("0.5", "0"), "field nms_iou: has to be a number above 0"),
        (WHOLE.replace("wbf", "mean"), "field merge: has to be one of wbf, nms, nmw, got mean"),
        (WHOLE + "tiles = 3", "field tiles: unknown; known: kind"),
        (WHOLE.replace("nms_iou = 0.5\n", ""), "field nms_iou: value is missing"),
        (WHOLE + 'scores = {a = "x"}', "field scores: has to be a table of numbers"),
    ],
)
def test_a_faulty_recipe_is_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "views.toml"
    path.write_text(content)
    with pytest.raises(InputError, match=said) as caught:
        read_view_recipe(path, model="m")
    assert caught.value.file == path
