"""The comparison in sentences: the verdict, the controls, the champion, the searches."""

import numpy as np
from numpy.typing import NDArray

from motionbench.data.splits import SourceRecord
from motionbench.evaluation.comparison import Pair, compare_pairs, unbeaten_models
from motionbench.evaluation.results import Models, right_answers
from motionbench.evaluation.statistics import compare
from motionbench.models.registry import CONTENDERS, CONTROLS, MODELS
from motionbench.params.schema import GateParams

SEEN_BY_SEARCH = (
    "A search trains and validates on fold 0 alone. It has not seen the clips on which fold 0 is tested, but those of "
    "the other {} folds, so that the accuracy over all folds may be too high."
)
EACH = "both" if len(CONTENDERS) == 2 else f"all {len(CONTENDERS)}"


def verdict(models: Models, labels: NDArray[np.int64]) -> str:
    """Say whether the contenders differ significantly on the test split.

    A difference is significant if both the exact paired test over clips and the interval over clips and replicates
    show it.
    """
    pairs = compare_pairs(models, labels)
    detectable = f"the test could not have shown a difference below {pairs[0].found.detectable:.3f}"
    if all(models[name]["accuracy"] == 1 for name in CONTENDERS):
        return (
            f"No difference shown: every replicate of {EACH} models classifies all {len(labels)} test clips right. "
            "With so few clips that is compatible, at 95 % confidence, with a true accuracy as low as "
            f"{models[CONTENDERS[0]]['interval'][0]:.3f}, and {detectable}."
        )
    shown = [_describe_pair(pair, len(pairs)) for pair in pairs if pair.better]
    not_shown = [_describe_pair(pair, len(pairs)) for pair in pairs if not pair.better]
    limits = [f"With {len(labels)} clips {detectable}."] if not_shown else []
    return " ".join([*shown, *not_shown, *limits])


def _describe_pair(pair: Pair, pairs: int) -> str:
    first, second, found = pair
    adjusted = "Holm-adjusted p" if pairs > 1 else "p"
    figures = (
        f"accuracy {first} less {second} {found.difference:+.3f} (95 % interval {found.interval[0]:+.3f} to "
        f"{found.interval[1]:+.3f}, exact paired test {adjusted} = {found.p_value:.2g})."
    )
    if pair.better:
        worse = second if pair.better == first else first
        return f"{pair.better} is better than {worse}: {figures}"
    between = f" between {first} and {second}" if pairs > 1 else ""
    return f"No difference shown{between}: {figures}"


def check_controls(models: Models, labels: NDArray[np.int64], source: str) -> str:
    """Say what the accuracy of the controls, which cannot see motion, shows about the data of a source."""
    right = {name: right_answers(model, labels) for name, model in models.items()}
    best = max(CONTENDERS, key=lambda name: models[name]["accuracy"])
    behind = {name: compare(right[best], right[name]) for name in CONTROLS}
    blind = f"The controls are blind to motion ({', '.join(f'{name} sees {MODELS[name].sees}' for name in CONTROLS)})"
    scores = ", ".join(f"{name} {models[name]['accuracy']:.3f}" for name in CONTROLS)
    alike = [name for name, found in behind.items() if not (found.significant and found.difference > 0)]
    if alike:
        return (
            f"{blind}, and yet their accuracy is {scores}: {best} is not shown to be better than "
            f"{' and '.join(alike)}. So on these clips no accuracy is evidence that a model sees motion"
            f"{'; synthetic.variant: motion draws clips that need it' if source == 'synthetic' else ''}."
        )
    return (
        f"{blind}, and their accuracy is {scores}: what {best} reaches beyond that, {models[best]['accuracy']:.3f}, "
        f"rests on motion (exact paired tests, p = {max(found.p_value for found in behind.values()):.2g} or less)."
    )


def choose_champion(models: Models, labels: NDArray[np.int64], gate: GateParams) -> tuple[str | None, str]:
    """Return the champion, None if there is none, and the reason.

    The champion is the best model or, where no difference is shown, the fastest of the best, if it passes the gate.
    """
    unbeaten = unbeaten_models(compare_pairs(models, labels))
    name = min(unbeaten, key=lambda name: models[name]["cost"]["latency_milliseconds"][1])
    better, faster = ("better", "faster") if len(CONTENDERS) == 2 else ("best", "fastest")
    reason = f"the {better} model" if len(unbeaten) == 1 else f"the {faster} model where no difference is shown"
    low, latency = models[name]["interval"][0], models[name]["cost"]["latency_milliseconds"][1]
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
    searches = {name: models[name]["search"] for name in CONTENDERS}
    trials = {name: search["trials"] if search else 0 for name, search in searches.items()}
    if not any(trials.values()):
        neither = "neither" if len(CONTENDERS) == 2 else "none"
        return [
            f"{EACH.capitalize()} models had the same effort of tuning: the parameters of {neither} come from a search."
        ]
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


def clip_notes(source: SourceRecord) -> list[str]:
    """Say how the clips were dealt into folds, which files were left out, and what may mislead a reader."""
    folds = (
        f"Cross-validation over {source.folds} folds: each clip is tested once per seed, by a replicate that has seen "
        "neither the clip nor another one of its group."
    )
    skipped = "; ".join(f"{name} ({reason})" for name, reason in source.skipped.items())
    return [
        *([folds] if source.folds else []),
        *([f"Left out, since folder.on_bad is skip: {skipped}."] if skipped else []),
        *(f"Warning: {warning}." for warning in source.warnings),
    ]
