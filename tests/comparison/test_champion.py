import pytest

from motionbench.comparison.champion import Contender, choose_champion
from motionbench.comparison.pairs import Comparison, Found

SLOW, FAST = Contender(0.96, 0.92, 2.2), Contender(0.95, 0.91, 1.7)


def pair(low: float, high: float, first: str = "fast", second: str = "slow") -> Comparison:
    networks = Found((low, high), 0.5)
    return Comparison(first, second, (low + high) / 2, networks, networks, 0.5, 0.1, units=80, tests=1, margin=0.02)


def test_the_most_accurate_is_champion_if_a_faster_one_is_not_shown_to_be_as_good() -> None:
    # Seen: of 0.911, 0.944 and 0.959 the least accurate, because it is the fastest and no difference is shown.
    name, reason = choose_champion({"fast": FAST, "slow": SLOW}, [pair(-0.06, 0.04)], 0.9, 100)
    assert name == "slow"
    assert reason == (
        "Champion: slow, the most accurate of the models that pass the gate (accuracy 0.960, at least 0.920; latency "
        "2.2 ms)."
    )


@pytest.mark.parametrize("found", [pair(-0.019, 0.004), pair(-0.1, 0.019, "slow", "fast")])
def test_a_faster_one_is_champion_if_it_is_shown_to_be_no_worse(found: Comparison) -> None:
    name, reason = choose_champion({"fast": FAST, "slow": SLOW}, [found], 0.9, 100)
    assert name == "fast"
    assert "faster than slow and shown to be no more than 0.02 less accurate" in reason


def test_a_faster_one_is_not_if_it_may_be_worse() -> None:
    assert choose_champion({"fast": FAST, "slow": SLOW}, [pair(-0.004, 0.021, "slow", "fast")], 0.9, 100)[0] == "slow"


def test_a_slower_one_is_not() -> None:
    slower = FAST._replace(latency=3.0)
    assert choose_champion({"fast": slower, "slow": SLOW}, [pair(-0.01, 0.0)], 0.9, 100)[0] == "slow"


def test_one_seed_shows_nothing_of_recipes() -> None:
    one_seed = pair(-0.001, 0.001)._replace(recipes=None)
    assert choose_champion({"fast": FAST, "slow": SLOW}, [one_seed], 0.9, 100)[0] == "slow"


def test_of_equally_accurate_ones_the_fastest_is_champion() -> None:
    alike = {"slow": SLOW, "fast": SLOW._replace(latency=1.0)}
    name, reason = choose_champion(alike, [pair(-0.1, 0.1)], 0.9, 100)
    assert name == "fast"
    assert "the fastest of the most accurate" in reason


def test_one_that_fails_the_gate_leaves_its_place_to_the_next() -> None:
    # Seen: where the chosen one failed, nobody became champion.
    for fails in (SLOW._replace(lowest=0.8), SLOW._replace(latency=150.0)):
        name, reason = choose_champion({"fast": FAST, "slow": fails}, [pair(-0.06, 0.04)], 0.9, 100)
        assert name == "fast"
        assert "the only one to pass the gate" in reason


def test_if_none_passes_the_reason_names_each_fault() -> None:
    contenders = {"fast": FAST._replace(lowest=0.5), "slow": SLOW._replace(lowest=0.6, latency=150.0)}
    name, reason = choose_champion(contenders, [pair(-0.06, 0.04)], 0.9, 100)
    assert name is None
    assert reason == (
        "No model becomes champion, since none passes the gate (fast: accuracy may be as low as 0.500, below 0.9; "
        "slow: accuracy may be as low as 0.600, below 0.9 and latency is 150.0 ms, above 100)."
    )


def test_a_single_contender_needs_no_pair() -> None:
    assert choose_champion({"slow": SLOW}, [], 0.9, 100)[1].startswith("Champion: slow, the only contender (")
