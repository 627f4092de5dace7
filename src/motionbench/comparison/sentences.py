"""What comparisons show, in words: no more than was shown."""

from collections.abc import Mapping, Sequence

from motionbench.comparison.intervals import Groups, Right
from motionbench.comparison.pairs import Comparison, Found, Pair, compare_pairs

SMALLEST_P = 1e-15  # to print


def describe_pair(pair: Pair) -> str:
    """Say which of two models is better, whether they are practically equal, or that neither is shown."""
    first, second, found, margin, pairs = pair
    names = f"{first} and {second}"
    adjusted = f" (p-values adjusted for {pairs} pairs)" if pairs > 1 and found.testable else ""
    figures = f"accuracy of {first} less {second} {found.difference:+.3f}; {_describe_found(found)}{adjusted}"
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
            f"would be so if both were trained again {why}: {figures}.{_describe_design(pair)}"
        )
    return f"Between {names} no difference is shown, nor that they are equal: {figures}.{_describe_design(pair)}"


def _describe_found(found: Comparison) -> str:
    # A p-value that cannot be small says nothing.
    exact = [f"exact {format_p(found.networks.p_value)}"] if found.testable else []
    if found.recipes is None:
        interval = f"approximate {_describe_interval(found.networks)}"  # not of the exact test, and may disagree
        return f"these networks: {', '.join([interval, *exact])}; trained again: not known from one seed"
    again = _describe_interval(found.recipes)
    if found.probability is None:
        return f"trained again: {again}"
    likely = f"{_describe_probability(found.probability)} likely that the first is better"
    return f"these networks: {exact[0]}; trained again: {again}, {format_p(found.recipes.p_value)}, {likely}"


def _describe_probability(probability: float) -> str:
    if 0.01 <= probability <= 0.99:
        return f"{probability:.0%}"
    return "more than 99%" if probability > 0.5 else "less than 1%"


def format_p(p_value: float) -> str:
    """Return a p-value in words; one that rounding errors would decide as a bound."""
    return f"p < {SMALLEST_P:g}" if p_value < SMALLEST_P else f"p = {p_value:.2g}"


def _describe_interval(found: Found) -> str:
    return f"95 % interval {found.interval[0]:+.3f} to {found.interval[1]:+.3f}"


def _describe_design(pair: Pair) -> str:
    found, number = pair.found, f" for {pair.pairs} comparisons" if pair.pairs > 1 else ""
    if not found.testable:
        return (
            f" With {found.units} clips or groups no difference can be shown, whatever the intervals are: "
            f"{found.needed} are needed{number}."
        )
    if found.findable is None:
        return ""
    if found.findable > 1:
        return f" With these clips and seeds hardly any difference can be shown{number}."
    return (
        f" A true difference of {found.findable:.3f} would be shown of models that are trained again in about 80 of "
        f"100 repetitions{number}, if clips and seeds vary as they do here."
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
    design = _describe_design(alike[0])
    return (
        f"{best} is not shown to be better than {names}, which cannot see {cannot_see}: on these clips its accuracy is "
        f"no evidence that it sees {cannot_see}.{design}{seeds}"
    )
