"""What comparisons show, in words: no more than was shown."""

from collections.abc import Mapping, Sequence

from motionbench.comparison.intervals import Groups, Right
from motionbench.comparison.pairs import Comparison, compare_pairs
from motionbench.models.registry import BASELINES, CONTROLS, MODELS, contenders_among

SMALLEST_P = 1e-15  # to print
ONE_SEED = " These are the trained networks: one seed says nothing of others."


def describe_pair(pair: Comparison) -> str:
    """Say which of two models is better, whether they are practically equal, or that neither is shown."""
    networks, recipes, better = pair.networks, pair.recipes, pair.better or pair.better_network
    worse = pair.second if better == pair.first else pair.first
    low, high = (recipes or networks).interval
    interval = f"95 % interval {low:+.3f} to {high:+.3f}"
    exact = f"exact {format_p(networks.p_value)}"
    if recipes is None:
        # The approximate interval is not of the exact test, and may disagree.
        shown = f", {exact}" if pair.testable else ""  # a p-value that cannot be small says nothing
        found = f"these networks: approximate {interval}{shown}; trained again: not known from one seed"
    elif pair.probability is None:
        found = f"trained again: {interval}"
    else:
        likely = f"{pair.probability:.0%}"
        if not 0.01 <= pair.probability <= 0.99:
            likely = "more than 99%" if pair.probability > 0.5 else "less than 1%"
        found = (
            f"these networks: {exact}; trained again: {interval}, {format_p(recipes.p_value)}, {likely} likely that "
            "the first is better"
        )
    adjusted = f" (p-values adjusted for {pair.tests} pairs)" if pair.tests > 1 and pair.testable else ""
    figures = f"accuracy of {pair.first} less {pair.second} {pair.difference:+.3f}; {found}{adjusted}"
    if pair.better:
        within = f", by less than {pair.margin:g}, so that they are practically equal" if pair.equal else ""
        return f"{better} is better than {worse}{within}: {figures}."
    if pair.equal:
        return f"{pair.first} and {pair.second} are practically equal: {figures}."
    if better:
        why = "one seed cannot tell" if recipes is None else "is not shown"
        return (
            f"The trained networks of {better} are better than those of {worse}, but whether the recipe "
            f"would be so if both were trained again {why}: {figures}.{_describe_design(pair)}"
        )
    names = f"{pair.first} and {pair.second}"
    return f"Between {names} no difference is shown, nor that they are equal: {figures}.{_describe_design(pair)}"


def format_p(p_value: float) -> str:
    """Return a p-value in words; one that rounding errors would decide as a bound."""
    return f"p < {SMALLEST_P:g}" if p_value < SMALLEST_P else f"p = {p_value:.2g}"


def _describe_design(pair: Comparison) -> str:
    number = f" for {pair.tests} comparisons" if pair.tests > 1 else ""
    if not pair.testable:
        return (
            f" With {pair.units} clips or groups no difference can be shown, whatever the intervals are: "
            f"{pair.needed} are needed{number}."
        )
    if pair.findable is None:
        return ""
    if pair.findable > 1:
        return f" With these clips and seeds hardly any difference can be shown{number}."
    return (
        f" A true difference of {pair.findable:.3f} would be shown of models that are trained again in about 80 of "
        f"100 repetitions{number}, if clips and seeds vary as they do here."
    )


def compare_with_baselines(right: Mapping[str, Right], groups: Groups | None, margin: float) -> list[Comparison]:
    """Compare each contender with each baseline, p-values adjusted for all of these pairs.

    Args:
        right: by model, whether each prediction is right, shape (replicates, clips).
        groups: what belongs together; without it each clip is a group.
        margin: the difference below which two models are practically equal.
    """
    baselines = [name for name in BASELINES if name in right]
    pairs = [(contender, baseline) for baseline in baselines for contender in contenders_among(right)]
    return compare_pairs(right, groups, margin, pairs)


def describe_baselines(pairs: Sequence[Comparison]) -> list[str]:
    """Say of each contender whether it is shown to be better than a baseline, a sentence per baseline."""
    sentences = []
    for baseline in dict.fromkeys(pair.second for pair in pairs):
        of_baseline = [pair for pair in pairs if pair.second == baseline]
        found = []
        for pair in of_baseline:
            low, high = (pair.recipes or pair.networks).interval
            equal = ", practically equal" if pair.equal else ""
            figures = f"accuracy {pair.difference:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}{equal}"
            found.append(f"{pair.first} {describe_lead(pair)} ({figures})")
        behind = [pair for pair in of_baseline if not pair.first_leads]
        sentences.append(
            f"Compared with the baseline {baseline}, which sees {MODELS[baseline].sees}: {'; '.join(found)}."
            f"{_describe_design(behind[0]) if behind else ''}{'' if pairs[0].recipes else ONE_SEED}"
        )
    return sentences


def describe_lead(pair: Comparison) -> str:
    """Say whether the first model is shown to be better, or to be worse."""
    return "is better" if pair.first_leads else "is worse" if pair.leader else "is not shown to be better"


def compare_with_controls(right: Mapping[str, Right], groups: Groups | None, margin: float) -> list[Comparison]:
    """Compare the most accurate contender with each control: the one rule for all that is said of controls.

    A control is left behind if `Comparison.first_leads`. Since the contender is chosen on the same clips, p-values are
    adjusted as if all contenders were compared with all controls.

    Args:
        right: by model, whether each prediction is right, shape (replicates, clips).
        groups: what belongs together; without it each clip is a group.
        margin: the difference below which two models are practically equal.
    """
    contenders = contenders_among(right)
    best = max(contenders, key=lambda name: float(right[name].mean()))
    all_pairs = [(contender, control) for contender in contenders for control in CONTROLS if control in right]
    return [pair for pair in compare_pairs(right, groups, margin, all_pairs) if pair.first == best]


def describe_controls(pairs: Sequence[Comparison]) -> str:
    """Say how much better the contender is than the controls, not why."""
    best = pairs[0].first
    alike = [pair for pair in pairs if not pair.first_leads]
    seeds = "" if pairs[0].recipes else ONE_SEED
    if not alike:
        differences = " and ".join(
            f"{pair.second} by {pair.difference:+.3f}{' (practically equal)' if pair.equal else ''}" for pair in pairs
        )
        return f"{best} is better than the controls, which cannot see motion: {differences}.{seeds}"
    names = " and ".join(pair.second for pair in alike)
    return (
        f"{best} is not shown to be better than {names}, which cannot see motion: on these clips its accuracy is no "
        f"evidence that it sees motion.{_describe_design(alike[0])}{seeds}"
    )
