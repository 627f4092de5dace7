"""What comparisons show, in words: no more than was shown."""

from collections.abc import Mapping, Sequence

from motionbench.comparison.intervals import Groups, Right
from motionbench.comparison.pairs import Comparison, Found, Pair, compare_pairs

SMALLEST_P = 1e-15  # to print


def describe_pair(pair: Pair) -> str:
    """Say which of two models is better, whether they are practically equal, or that neither is shown."""
    first, second, found, margin = pair
    names = f"{first} and {second}"
    figures = f"accuracy of {first} less {second} {found.difference:+.3f}; {_describe_found(found)}"
    within = f", by less than {margin:g}, so that they are practically equal" if pair.equal else ""
    if pair.better:
        worse = second if pair.better == first else first
        return f"{pair.better} is better than {worse}{within}: {figures}."
    if pair.equal:
        return f"{names} are practically equal: {figures}."
    if pair.better_network:
        worse = second if pair.better_network == first else first
        why = "one seed cannot tell" if found.recipes is None else "is not shown"
        return (
            f"The trained networks of {pair.better_network} are better than those of {worse}, but whether the recipe "
            f"would be so if both were trained again {why}: {figures}.{_describe_design(found)}"
        )
    return f"Between {names} no difference is shown, and not that they are equal: {figures}.{_describe_design(found)}"


def _describe_found(found: Comparison) -> str:
    networks = f"these networks: {_describe_interval(found.networks)}"
    again = "not known from one seed" if found.recipes is None else _describe_interval(found.recipes)
    # A p-value that cannot be small says nothing.
    if found.testable:
        networks += f", exact {format_p(found.networks.p_value)}"
        if found.recipes:
            again += f", {format_p(found.recipes.p_value)}, {found.probability:.0%} likely that the first is better"
    return f"{networks}; trained again: {again}"


def format_p(p_value: float) -> str:
    """Return a p-value in words; one that rounding errors would decide as a bound."""
    return f"p < {SMALLEST_P:g}" if p_value < SMALLEST_P else f"p = {p_value:.2g}"


def _describe_interval(found: Found) -> str:
    return f"95 % interval {found.interval[0]:+.3f} to {found.interval[1]:+.3f}"


def _describe_design(found: Comparison) -> str:
    if not found.testable:
        return (
            f" With {found.units} clips or groups no difference can be shown, whatever the intervals are: "
            f"{found.needed} are needed."
        )
    if found.findable is None:
        return ""
    if found.findable > 1:
        return " With so few seeds, which differ so much, hardly any difference can be shown."
    return (
        f" With these clips and seeds the interval of recipes is clear of 0 in 80 of 100 repetitions if the true "
        f"difference is {found.findable:.3f}."
    )


def compare_with_controls(
    right: Mapping[str, Right], contenders: Sequence[str], controls: Sequence[str], groups: Groups | None, margin: float
) -> list[Pair]:
    """Compare the most accurate contender with each control: the one rule for all that is said of controls.

    A control is left behind if `Pair.better` names the contender; with one seed, if `Pair.better_network` does. Since
    the contender is chosen on the same clips, p-values are adjusted as if all contenders were compared with all
    controls.

    Args:
        right: by model, whether each answer is right, shape (replicates, clips).
        contenders: names of models.
        controls: names of models that cannot see what the contenders see.
        groups: what belongs together; without it each clip is a group.
        margin: the difference below which two models are practically equal.
    """
    best = max(contenders, key=lambda name: float(right[name].mean()))
    all_pairs = [(contender, control) for contender in contenders for control in controls]
    return [pair for pair in compare_pairs(right, groups, margin, all_pairs) if pair.first == best]


def left_behind(pair: Pair) -> bool:
    """Return whether the first model, a contender, is shown to be better than the second, a control."""
    return (pair.better if pair.found.recipes else pair.better_network) == pair.first


def describe_controls(pairs: Sequence[Pair], cannot_see: str = "motion") -> str:
    """Say how much better the contender is than the controls, not why."""
    best = pairs[0].first
    alike = [pair for pair in pairs if not left_behind(pair)]
    seeds = "" if pairs[0].found.recipes else " These are the trained networks: one seed says nothing of others."
    if not alike:
        differences = " and ".join(
            f"{pair.second} by {pair.found.difference:+.3f}{' (practically equal)' if pair.equal else ''}"
            for pair in pairs
        )
        return f"{best} is better than the controls, which cannot see {cannot_see}: {differences}.{seeds}"
    names = " and ".join(pair.second for pair in alike)
    design = _describe_design(alike[0].found)
    return (
        f"{best} is not shown to be better than {names}, which cannot see {cannot_see}: on these clips its accuracy is "
        f"no evidence that it sees {cannot_see}.{design}{seeds}"
    )
