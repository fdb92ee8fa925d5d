import numpy as np
import pytest

from smallobj.ensemble.kernels_sort import sort_numbers, spread_falling


@pytest.mark.parametrize("spread", [False, True])
@pytest.mark.parametrize("power", [0.1, 1, 4, 60])
@pytest.mark.parametrize("count", [2, 65, 500])
@pytest.mark.parametrize("values", [3, 40, 100_000])
def test_numbers_come_by_falling_key_and_equal_ones_in_order(
    spread: bool, power: float, count: int, values: int
) -> None:
    rng = np.random.default_rng(0)
    key = (rng.integers(0, values, count + 10) / values) ** power - 0.25
    order, spare = np.full(count + 10, -1), np.empty(count + 10, np.int64)
    low, high = 5, count + 5
    done = spread and spread_falling(key, order, spare, low, high)
    if not done:
        sort_numbers(key, order, spare, low, high)
    wanted = low + np.argsort(-key[low:high], kind="stable")
    assert order[low:high].tolist() == wanted.tolist()
    assert (order[:low] == -1).all()
    assert (order[high:] == -1).all()


@pytest.mark.parametrize("key", [[0.5, 0.5, 0.5], [1e308, -1e308, 0.0], [5e-324, 0.0, 0.0]])
def test_keys_of_no_or_too_wide_a_spread_are_not_dealt(key: list[float]) -> None:
    order, spare = np.full(3, -1), np.empty(3, np.int64)
    assert not spread_falling(np.array(key), order, spare, 0, 3)
    assert (order == -1).all()
