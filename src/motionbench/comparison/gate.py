"""Which contender becomes the champion, and why."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from motionbench.comparison.pairs import Comparison


class Contender(NamedTuple):
    """What the gate asks of a contender."""

    accuracy: float  # mean over the replicates
    lowest: float  # the lower end of its interval
    latency: float  # milliseconds


def choose_winner(
    contenders: Mapping[str, Contender], pairs: Sequence[Comparison], minimum_accuracy: float, maximum_latency: float
) -> tuple[str | None, str]:
    """Return the champion, None if there is none, and the reason in one sentence.

    The champion is, of the contenders that pass the gate, the most accurate. A faster one takes its place only if its
    recipe is shown to be no worse than the margin below it; of several that are, the fastest.

    Args:
        contenders: by name.
        pairs: each contender compared with each other.
        minimum_accuracy: below which no interval of a champion's accuracy may reach.
        maximum_latency: of a champion, milliseconds.
    """
    faults = {name: _fault(each, minimum_accuracy, maximum_latency) for name, each in contenders.items()}
    passing = [name for name, fault in faults.items() if fault is None]
    if not passing:
        reasons = "; ".join(f"{name}: {fault}" for name, fault in faults.items())
        return None, f"No model becomes champion, since none passes the gate ({reasons})."
    best = min(passing, key=lambda name: (-contenders[name].accuracy, contenders[name].latency))
    instead = [name for name in passing if name != best and _is_no_worse(name, best, pairs)]
    chosen = min([best, *instead], key=lambda name: contenders[name].latency)
    accuracy, lowest, latency = contenders[chosen]
    figures = f"accuracy {accuracy:.3f}, at least {lowest:.3f}; latency {latency:.1f} ms"
    if chosen != best:
        why = f"faster than {best} and shown to be no more than {pairs[0].margin:g} less accurate"
    elif len(contenders) == 1:
        why = "the only contender"
    elif len(passing) == 1:
        why = "the only one to pass the gate"
    elif any(each.accuracy == accuracy for name, each in contenders.items() if name in passing and name != best):
        why = "the fastest of the most accurate models that pass the gate"
    else:
        why = "the most accurate of the models that pass the gate"
    return chosen, f"Champion: {chosen}, {why} ({figures})."


def choose_challenger(
    contenders: Mapping[str, Contender], champion: str | None, minimum_accuracy: float, maximum_latency: float
) -> tuple[str | None, str | None]:
    """Return the most accurate contender that is not the champion, the fastest of several; what it fails the gate for.

    Args:
        contenders: by name.
        champion: its name.
        minimum_accuracy: as of `choose_winner`.
        maximum_latency: as of `choose_winner`.
    """
    others = [name for name in contenders if name != champion]
    if not others:
        return None, None
    chosen = min(others, key=lambda name: (-contenders[name].accuracy, contenders[name].latency))
    return chosen, _fault(contenders[chosen], minimum_accuracy, maximum_latency)


def _fault(contender: Contender, minimum_accuracy: float, maximum_latency: float) -> str | None:
    faults = []
    if contender.lowest < minimum_accuracy:
        faults.append(f"accuracy may be as low as {contender.lowest:.3f}, below {minimum_accuracy:g}")
    if contender.latency > maximum_latency:
        faults.append(f"latency is {contender.latency:.1f} ms, above {maximum_latency:g}")
    return " and ".join(faults) or None


def _is_no_worse(name: str, best: str, pairs: Sequence[Comparison]) -> bool:
    pair = next(pair for pair in pairs if {pair.first, pair.second} == {name, best})
    if pair.recipes is None:
        return False
    low, high = pair.recipes.interval
    return (low if pair.first == name else -high) >= -pair.margin
