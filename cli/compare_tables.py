"""What `smallobj compare` prints: tables of numbers that were computed elsewhere."""

from collections.abc import Sequence
from math import isinf, isnan
from typing import TYPE_CHECKING, Any

from smallobj.cli.scored import counted

if TYPE_CHECKING:
    from rich.table import Table

    from smallobj.evaluation import ComparedPair, Comparison, Difference, FoundBy

MOST_PAIRS = 10  # rows of a table; more are in the JSON file
_FEW_RUNS = 4  # of which the scores of every two are compared


def comparison_tables(
    comparison: "Comparison", names: Sequence[str], metric: str, *, narrow: bool
) -> "list[Table]":
    """All tables of a comparison, in the order they are printed.

    metric: what is shown by size and class. narrow: intervals go below their numbers.
    """
    tables = [
        _scores(comparison, names, narrow=narrow),
        _parts(comparison, names, metric, "size (sqrt of area)", "by_size"),
        _parts(comparison, names, metric, "class", "by_class"),
        _found(comparison, names),
        _found_by(comparison.at, names),
        _pairs(comparison, names),
    ]
    if comparison.runs[0].intervals:
        tables.insert(1, _differences(comparison, names))
    return tables


def closing_sentence(comparison: "Comparison", names: Sequence[str]) -> str:
    """Which two runs complement each other best, for whoever decides what to train or fuse next."""
    pair, alone = comparison.best_pair(), comparison.best_alone()
    boxes, single = pair.at.boxes, comparison.runs[alone].at.found
    more = pair.at.together - single
    if not more:
        return f"No two runs find more together than {names[alone]} finds alone."
    return (
        f"Together {names[pair.first]} and {names[pair.second]} find most: {pair.at.together} of"
        f" {counted(boxes, 'true box')}, {more} more (+{100 * more / boxes:.1f} points of recall)"
        f" than {names[alone]}, the best alone."
    )


def _scores(comparison: "Comparison", names: Sequence[str], *, narrow: bool) -> "Table":
    from smallobj.evaluation import METRICS, STEPS_50_95

    table = _table("metric", *names)
    for metric in METRICS:
        values = [getattr(run.evaluation, metric) for run in comparison.runs]
        behind = [_interval(run.intervals.get(metric), narrow) for run in comparison.runs]
        table.add_row(metric, *_marked(values, behind))
    for step, iou in enumerate(STEPS_50_95):
        table.add_row(
            f"map at IoU {iou:.2f}", *_marked([float(run.by_iou[step]) for run in comparison.runs])
        )
    every = comparison.runs[0].evaluation
    boxes, images = counted(every.overall.boxes, "true box"), counted(every.images, "image")
    table.caption = f"{boxes} in {images}; * the best"
    return table


def _parts(
    comparison: "Comparison", names: Sequence[str], metric: str, what: str, parts: str
) -> "Table":
    table = _table(what, "true boxes", *(f"{name} {metric}" for name in names))
    every = [getattr(run.evaluation, parts) for run in comparison.runs]
    for same in zip(*every, strict=True):
        values = [getattr(part, metric) for part in same]
        table.add_row(_text(same[0].name), str(same[0].boxes), *_marked(values))
    return table


def _differences(comparison: "Comparison", names: Sequence[str]) -> "Table":
    """What every run has above the reference; of few runs also what it has above each other."""
    from smallobj.evaluation import METRICS

    table = _table("run", "above", *METRICS)
    places = range(len(names))
    against = comparison.against
    wanted = [(run, against) for run in places if run != against]
    if len(names) <= _FEW_RUNS:
        rest = [run for run in places if run != against]
        wanted += [(b, a) for k, a in enumerate(rest) for b in rest[k + 1 :]]
    for run, other in wanted:
        above = comparison.above(run, other)
        cells = [_difference(above[metric]) for metric in METRICS]
        table.add_row(_text(names[run]), _text(names[other]), *cells)
    table.caption = "95 % intervals of the difference; * does not hold zero"
    return table


def _difference(difference: "Difference") -> str:
    mean, low, high = difference
    sure = low > 0 or high < 0
    return f"{mean:+.4f} ({low:+.4f} to {high:+.4f}){' *' if sure else '  '}"


def _found(comparison: "Comparison", names: Sequence[str]) -> "Table":
    columns = (
        "found at any score",
        "score from",
        "found",
        "false alarms",
        "F1",
        "found by no other",
    )
    table = _table("run, at IoU 0.50", *columns)
    for place, (name, run) in enumerate(zip(names, comparison.runs, strict=True)):
        point = run.at
        table.add_row(
            _text(name),
            str(int(run.found.found.sum())),
            "-" if isinf(point.threshold) else f"{point.threshold:.4f}",
            _of_all(point.found, point.true_boxes),
            str(point.false_alarms),
            _number(point.f1),
            str(comparison.at[0].only[place]),
        )
    reference = names[comparison.against]
    where = f"where it makes as many false alarms as {reference} at its best F1"
    own = "at its own best F1"
    table.caption = _text(f"each run cut {where if comparison.fairness == 'alarms' else own}")
    return table


def _found_by(sizes: "Sequence[FoundBy]", names: Sequence[str]) -> "Table":
    several = len(names) > 2  # of two runs all is both
    table = _table(
        *(
            "size (sqrt of area)",
            "true boxes",
            "found by all",
            *(["by several"] if several else []),
        ),
        *("by none", *(f"only {name}" for name in names)),
    )
    for one in sizes:
        some = one.boxes - one.every - one.none - sum(one.only)
        table.add_row(
            *(one.size, str(one.boxes), _of_all(one.every, one.boxes)),
            *([str(some)] if several else []),
            *(_of_all(one.none, one.boxes), *map(str, one.only)),
        )
    table.caption = "at the scores above"
    return table


def _pairs(comparison: "Comparison", names: Sequence[str]) -> "Table":
    """Every two runs, those first that find most together."""
    ordered = sorted(comparison.pairs, key=lambda pair: -pair.at.together)
    table = _table(
        *("pair", "both", "only 1st", "only 2nd", "neither", "union gains", "Jaccard", "phi"),
        *("Yule's Q", "score corr.", "alarms shared"),
    )
    for pair in ordered[:MOST_PAIRS]:
        table.add_row(_text(f"{names[pair.first]}, {names[pair.second]}"), *_pair_cells(pair))
    table.caption = "at the scores above"
    if len(ordered) > MOST_PAIRS:
        table.caption += f"; {MOST_PAIRS} of {len(ordered)} pairs shown, --json holds all"
    return table


def _pair_cells(pair: "ComparedPair") -> list[str]:
    at = pair.at
    return [
        *map(str, (at.both, at.only_first, at.only_second, at.neither)),
        _of_all(at.gain, at.boxes),
        *(_number(value, 3) for value in (at.jaccard, at.phi, at.yule_q)),
        _number(pair.score_correlation, 3),
        f"{_percent(pair.alarms_of_first)} / {_percent(pair.alarms_of_second)}",
    ]


def _table(first: str, *columns: str) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, caption_justify="left", padding=(0, 1, 0, 0))
    table.add_column(first, overflow="fold")
    for column in columns:
        table.add_column(_text(column), justify="right", overflow="fold")
    return table


def _marked(values: Sequence[float], behind: Sequence[str] = ()) -> list[Any]:
    """Numbers, the highest in bold and with a star."""
    from rich.text import Text

    known = [value for value in values if not isnan(value)]
    best = max(known, default=float("nan"))
    cells = []
    for value, more in zip(values, behind or [""] * len(values), strict=True):
        is_best = value == best and min(known) < best
        star = "*" if is_best else " "
        cells.append(Text(f"{_number(value)}{star}{more}", style="bold" if is_best else ""))
    return cells


def _interval(interval: Any, narrow: bool) -> str:
    """An interval behind its number, or below it where there is no room."""
    if interval is None:
        return ""
    return f"{chr(10) if narrow else ' '}({interval.low:.3f} to {interval.high:.3f})"


def _text(name: Any) -> Any:
    from rich.text import Text

    return Text(str(name))  # names may hold what rich takes for markup


def _number(value: float, digits: int = 4) -> str:
    return "-" if isnan(value) else f"{value:.{digits}f}"


def _of_all(count: int, boxes: int) -> str:
    return f"{count} ({_percent(count / boxes)})" if boxes else str(count)


def _percent(share: float) -> str:
    return "-" if isnan(share) else f"{100 * share:.1f} %"
