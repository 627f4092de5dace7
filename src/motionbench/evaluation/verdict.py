"""The comparison in sentences: the verdict, the controls, the champion, the searches."""

from collections import Counter
from collections.abc import Sequence

from motionbench.data.splits import SourceRecord
from motionbench.evaluation.comparison import Pair, compare_pairs, unbeaten_models
from motionbench.evaluation.held_out import HeldOutClips
from motionbench.evaluation.results import Models, right_answers
from motionbench.evaluation.statistics import Comparison, compare, units_needed
from motionbench.models.registry import CONTROLS, MODELS, contenders_among
from motionbench.params.schema import GateParams

SEEN_BY_SEARCH = (
    "A search trains and validates on fold 0 alone. It has not seen the clips on which fold 0 is tested, but those of "
    "the other {} folds, so that the accuracy over all folds may be too high."
)
FEW_GROUPS = 30  # below which intervals that resample groups are too narrow


def verdict(models: Models, clips: HeldOutClips) -> str:
    """Say whether the contenders differ significantly on the test split.

    A difference is significant if both the exact paired test and the interval over clips and replicates show it.
    """
    contenders = contenders_among(models)
    pairs = compare_pairs(models, clips)
    limit = _limit(pairs[0].found, len(pairs))
    units = "groups" if clips.groups is not None else "clips"
    if all(models[name]["accuracy"] == 1 for name in contenders):
        return (
            f"No difference shown: every replicate of {_each(contenders)} models classifies all {len(clips.labels)} "
            f"test clips right. With so few {units} that is compatible, at 95 % confidence, with a true accuracy as "
            f"low as {models[contenders[0]]['interval'][0]:.3f}, and {limit}."
        )
    test = "exact paired test over groups" if clips.groups is not None else "exact paired test"
    shown = [_describe_pair(pair, len(pairs), test) for pair in pairs if pair.better]
    not_shown = [_describe_pair(pair, len(pairs), test) for pair in pairs if not pair.better]
    limits = [f"With {clips.units()} {limit}."] if not_shown else []
    return " ".join([*shown, *not_shown, *limits])


def _each(contenders: Sequence[str]) -> str:
    return "both" if len(contenders) == 2 else f"all {len(contenders)}"


def _limit(found: Comparison, tests: int) -> str:
    if found.detectable is None:
        return f"no difference could be shown; at least {units_needed(tests)} are needed"
    return f"the test could not have shown a difference below {found.detectable:.3f}"


def _compare_with_controls(models: Models, clips: HeldOutClips, name: str) -> tuple[dict[str, Comparison], list[str]]:
    """Compare a contender with each control; also return the controls than which it is not shown to be better."""
    right = {each: right_answers(models[each]["replicates"], clips.labels) for each in (name, *CONTROLS)}
    behind = {control: compare(right[name], right[control], groups=clips.groups) for control in CONTROLS}
    return behind, [name for name, found in behind.items() if not (found.significant and found.difference > 0)]


def _describe_pair(pair: Pair, pairs: int, test: str) -> str:
    first, second, found = pair
    adjusted = "Holm-adjusted p" if pairs > 1 else "p"
    figures = (
        f"accuracy {first} less {second} {found.difference:+.3f} (95 % interval {found.interval[0]:+.3f} to "
        f"{found.interval[1]:+.3f}, {test} {adjusted} = {found.p_value:.2g})."
    )
    if pair.better:
        worse = second if pair.better == first else first
        return f"{pair.better} is better than {worse}: {figures}"
    between = f" between {first} and {second}" if pairs > 1 else ""
    return f"No difference shown{between}: {figures}"


def check_controls(models: Models, clips: HeldOutClips, source: str) -> str:
    """Say what the accuracy of the controls, which cannot see motion, shows about the data of a source."""
    best = max(contenders_among(models), key=lambda name: models[name]["accuracy"])
    behind, alike = _compare_with_controls(models, clips, best)
    blind = f"The controls are blind to motion ({', '.join(f'{name} sees {MODELS[name].sees}' for name in CONTROLS)})"
    scores = ", ".join(f"{name} {models[name]['accuracy']:.3f}" for name in CONTROLS)
    if alike:
        found = behind[alike[0]]
        limit = f" With {clips.units()} {_limit(found, 1)}." if found.detectable is None else ""
        return (
            f"{blind}, and yet their accuracy is {scores}: {best} is not shown to be better than "
            f"{' and '.join(alike)}. So on these clips no accuracy is evidence that a model sees motion"
            f"{'; synthetic.variant: motion draws clips that need it' if source == 'synthetic' else ''}.{limit}"
        )
    return (
        f"{blind}, and their accuracy is {scores}: what {best} reaches beyond that, {models[best]['accuracy']:.3f}, "
        f"rests on motion (exact paired tests, p = {max(found.p_value for found in behind.values()):.2g} or less)."
    )


def choose_champion(models: Models, clips: HeldOutClips, gate: GateParams) -> tuple[str | None, str]:
    """Return the champion, None if there is none, and the reason.

    The champion is the best model or, where no difference is shown, the fastest of the best, if it passes the gate.
    """
    unbeaten = unbeaten_models(models, compare_pairs(models, clips))
    name = min(unbeaten, key=lambda name: models[name]["cost"].latency_milliseconds)
    contenders = contenders_among(models)
    better, faster = ("better", "faster") if len(contenders) == 2 else ("best", "fastest")
    reason = f"the {better} model" if len(unbeaten) == 1 else f"the {faster} model where no difference is shown"
    low, latency = models[name]["interval"][0], models[name]["cost"].latency_milliseconds
    if low < gate.minimum_accuracy:
        return None, (
            f"No model becomes champion: the accuracy of {name}, {reason}, may be as low as {low:.3f}, below "
            f"gate.minimum_accuracy: {gate.minimum_accuracy:g}."
        )
    if latency > gate.maximum_latency:
        return None, (
            f"No model becomes champion: the latency of {name}, {reason}, is {latency:.1f} ms, above "
            f"gate.maximum_latency: {gate.maximum_latency:g}."
        )
    return name, f"Champion: {name}, {reason}; accuracy at least {low:.3f}, latency {latency:.1f} ms."


def search_notes(models: Models, folds: int) -> list[str]:
    """Say how many trials each contender had, and how the loss of each search compares with the retrained loss.

    With folds, also say which of their test clips the searches have seen.
    """
    contenders = contenders_among(models)
    searches = {name: models[name]["search"] for name in contenders}
    trials = {name: search["trials"] if search else 0 for name, search in searches.items()}
    if not any(trials.values()):
        neither = "neither" if len(contenders) == 2 else "none"
        each = _each(contenders).capitalize()
        return [f"{each} models had the same effort of tuning: the parameters of {neither} come from a search."]
    same = "the same" if len(set(trials.values())) == 1 else "not the same"
    efforts = " and ".join(f"{name} {number} trials" for name, number in trials.items())
    return [
        f"The models had {same} effort of tuning: {efforts}.",
        *(
            f"The parameters of {name} are those of trial {search['number']} of study {search['study']}, the best of "
            f"{search['trials']}, with a validation loss of {search['validation_loss']:.3g}. At the epochs at which "
            f"the retrained replicates ended, the trial had {search['search_loss']:.3g} and they have "
            f"{search['retrained_loss']:.3g}: an optimism gap of "
            f"{search['retrained_loss'] - search['search_loss']:+.4f} nats."
            for name, search in searches.items()
            if search
        ),
        *([SEEN_BY_SEARCH.format(folds - 1)] if folds else []),
    ]


def clip_notes(source: SourceRecord, clips: HeldOutClips) -> list[str]:
    """Say how the clips were dealt into folds and are grouped, what was left out, and what may mislead a reader."""
    folds = (
        f"Cross-validation over {source.folds} folds: each clip is tested once per seed, by a replicate that has seen "
        "neither the clip nor another one of its group."
    )
    skipped = "; ".join(f"{name} ({reason})" for name, reason in source.skipped.items())
    return [
        *([folds] if source.folds else []),
        *([_describe_groups(clips)] if clips.groups is not None else []),
        *([f"Left out, since folder.on_bad is skip: {skipped}."] if skipped else []),
        *(f"Warning: {warning}." for warning in source.warnings),
    ]


def _describe_groups(clips: HeldOutClips) -> str:
    sizes = Counter(clips.groups).values()
    size = f"{min(sizes)}" if min(sizes) == max(sizes) else f"{min(sizes)} to {max(sizes)}"
    narrow = (
        " With so few groups these intervals are too narrow; the tests stay exact."
        if 1 < len(sizes) < FEW_GROUPS
        else ""
    )
    return (
        f"The {len(clips.labels)} test clips are in {clips.units()} of {size}, and clips of a group are alike: "
        "intervals resample whole groups and replicates, and paired tests swap two models' answers to whole groups."
        f"{narrow}"
    )
