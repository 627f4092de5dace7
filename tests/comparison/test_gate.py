import pytest

from motionbench.comparison.gate import Contender, choose_challenger, choose_winner
from motionbench.comparison.pairs import Comparison, Estimate

SLOW, FAST = Contender(0.96, 0.92, 2.2), Contender(0.95, 0.91, 1.7)


def pair(low: float, high: float, first: str = "fast", second: str = "slow") -> Comparison:
    networks = Estimate((low, high), 0.5)
    return Comparison(first, second, (low + high) / 2, networks, networks, 0.5, 0.1, units=80, tests=1, margin=0.02)


NOT_SHOWN = pair(-0.06, 0.04)
MOST_ACCURATE = (
    "slow, the most accurate of the models that pass the gate (accuracy 0.960, at least 0.920; latency 2.2 ms)."
)
NO_WORSE = "fast, faster than slow and shown to be no more than 0.02 less accurate ("


@pytest.mark.parametrize(
    ("fast", "slow", "found", "reason"),
    [
        # Seen: of 0.911, 0.944 and 0.959 the least accurate, because it is the fastest and no difference is shown.
        pytest.param(FAST, SLOW, NOT_SHOWN, MOST_ACCURATE, id="a faster one is not shown to be as good"),
        pytest.param(FAST, SLOW, pair(-0.019, 0.004), NO_WORSE, id="no worse"),
        pytest.param(FAST, SLOW, pair(-0.1, 0.019, "slow", "fast"), NO_WORSE, id="no worse, the other way round"),
        pytest.param(FAST, SLOW, pair(-0.004, 0.021, "slow", "fast"), MOST_ACCURATE, id="it may be worse"),
        pytest.param(FAST._replace(latency=3.0), SLOW, pair(-0.01, 0.0), MOST_ACCURATE, id="it is slower"),
        pytest.param(
            FAST, SLOW, pair(-0.001, 0.001)._replace(recipes=None), MOST_ACCURATE, id="one seed"
        ),
        pytest.param(
            SLOW._replace(latency=1.0), SLOW, pair(-0.1, 0.1),
            "fast, the fastest of the most accurate models that pass the gate (", id="equally accurate",
        ),
        # Seen: where the chosen one failed, nobody became champion.
        pytest.param(FAST, SLOW._replace(lowest=0.8), NOT_SHOWN, "fast, the only one to pass the gate (", id="fails"),
        pytest.param(FAST, SLOW._replace(latency=150.0), NOT_SHOWN, "fast, the only one to pass the gate (", id="slow"),
    ],
)  # fmt: skip # a case on a line where it fits
def test_the_champion_is_the_most_accurate_or_a_faster_one_that_is_shown_to_be_no_worse(
    fast: Contender, slow: Contender, found: Comparison, reason: str
) -> None:
    name, why = choose_winner({"fast": fast, "slow": slow}, [found], 0.9, 100)
    assert why.startswith(f"Champion: {reason}")
    assert name == reason.partition(",")[0]


def test_if_none_passes_the_reason_names_each_fault() -> None:
    contenders = {"fast": FAST._replace(lowest=0.5), "slow": SLOW._replace(lowest=0.6, latency=150.0)}
    name, reason = choose_winner(contenders, [NOT_SHOWN], 0.9, 100)
    assert name is None
    assert reason == (
        "No model becomes champion, since none passes the gate (fast: accuracy may be as low as 0.500, below 0.9; "
        "slow: accuracy may be as low as 0.600, below 0.9 and latency is 150.0 ms, above 100)."
    )


def test_a_single_contender_needs_no_pair() -> None:
    assert choose_winner({"slow": SLOW}, [], 0.9, 100)[1].startswith("Champion: slow, the only contender (")


def test_the_challenger_is_the_best_beside_the_champion_whether_it_passes_the_gate_or_not() -> None:
    contenders = {"fast": FAST, "slow": SLOW._replace(latency=150.0), "worse": FAST._replace(accuracy=0.5)}
    assert choose_challenger(contenders, "fast", 0.9, 100) == ("slow", "latency is 150.0 ms, above 100")
    assert choose_challenger(contenders, "slow", 0.9, 100) == ("fast", None)
    assert choose_challenger({"slow": SLOW}, "slow", 0.9, 100) == (None, None)
