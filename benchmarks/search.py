"""What a search costs and gains: workers, overhead, memory, pruning, and its best trials trained again.

python -m benchmarks.search [PART ...] writes benchmarks/search/<part>.json for each part, then benchmarks/SEARCH.md
from all that exist. Parts: workers, overhead, trials, pruning, and retrained, which needs reports/tuning/ of at least
one contender.
"""

import sys
from collections.abc import Callable, Mapping
from contextlib import chdir, nullcontext
from statistics import mean, median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import joblib
import numpy as np
import pandas as pd
import psutil
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import bootstrap

from benchmarks.common import (
    DOCS,
    HERE,
    ROOT,
    as_task,
    default_params,
    machine,
    markdown_table,
    seconds_of,
    write_clips,
    write_page,
)
from motionbench.core.files import read_json, write_json
from motionbench.core.paths import TRAIN, TUNING_REPORTS, VALIDATION, ReplicateKey
from motionbench.data.splits import read_source, read_split
from motionbench.execution.engine import local_engine, run_tasks
from motionbench.execution.runtime import importing_tensorflow
from motionbench.models.registry import CONTENDERS, ModelParams
from motionbench.params.schema import Params, ParamsSchema
from motionbench.tracking.trials import log_trials, study_run
from motionbench.tuning.outcome import ATTRIBUTES, trial_record
from motionbench.tuning.search import End, OnEnd, search
from motionbench.tuning.study import claim_trial, finished, open_storage, open_study

RESULTS = HERE / "search"
MODEL = "cnn_lstm"  # of all parts but `retrained`
ONE_NETWORK = {"filters": {"choices": [5]}, "learning_rate": {"choices": [0.005]}}  # so that all trials cost the same
WORKER_COUNTS = (1, 2, 4)
TRIALS_PER_WORKER = 3
OVERHEAD_TRIALS, OVERHEAD_WARM_UP = 60, 20
MANY_TRIALS, PAIRS = 50, 9
STUDIES, STUDY_TRIALS, STUDY_CLIPS = 5, 24, 10
FRESH_SEEDS = range(4000, 4010)


class Searched(NamedTuple):
    """A search that has ended."""

    seconds: float
    trials: list[FrozenTrial]


def main() -> None:
    """Measure the parts asked for, or all."""
    RESULTS.mkdir(exist_ok=True)
    for name in sys.argv[1:] or PARTS:
        write_json(RESULTS / f"{name}.json", {"machine": machine(), "measured": PARTS[name].measure()})
    write_page(HERE / "SEARCH.md", as_markdown())


def as_markdown() -> list[str]:
    """Return the page from the results of all parts that have been measured."""
    paragraphs = ["# What a search costs and gains", "By `make bench`, part by part. Each part names its machine."]
    for name, part in PARTS.items():
        if (path := RESULTS / f"{name}.json").exists():
            result = read_json(path)
            paragraphs += [f"## {part.title}", *part.describe(result["measured"], result["machine"])]
    return paragraphs


def _params(**changes: Any) -> Params:
    """Return the default parameters with changes in synthetic and tuning, and in the search for `MODEL`."""
    params = default_params()
    content = params.model_dump()
    section = content["tuning"][params.tuning.section(MODEL)]
    places = {"clips_per_class": content["synthetic"], "epochs": section, "space": section}
    for key, value in changes.items():
        places.get(key, content["tuning"])[key] = value
    return ParamsSchema.model_validate(content)


def _search(
    params: Params, trials: int, workers: int, on_end: OnEnd = lambda _end, _number: None, folder: str | None = None
) -> Searched:
    """Search in a new folder, or continue the search in `folder`."""
    with nullcontext(folder) if folder else TemporaryDirectory() as place, chdir(place):
        write_clips(params)
        storage, name = open_storage()
        study = open_study(storage, name, MODEL, params, {})
        with local_engine() as engine:
            seconds = seconds_of(lambda: search(engine, storage, study, MODEL, params, trials, workers, on_end))
        return Searched(seconds, finished(study))


def _measure_workers() -> dict[str, float]:
    """Return trials per minute by number of workers: one network, one thread per trial, medians of three searches."""
    params = _params(replicates=1, epochs=6, space=ONE_NETWORK, startup_trials=1000)
    rates: dict[int, list[float]] = {workers: [] for workers in WORKER_COUNTS}
    for _ in range(3):
        for workers, each in rates.items():
            trials = TRIALS_PER_WORKER * workers
            each.append(60 * trials / _search(params, trials, workers).seconds)
    return {str(workers): median(each) for workers, each in rates.items()}


def _describe_workers(measured: dict[str, float], where: str) -> list[str]:
    rows = [
        {
            "workers": workers,
            "trials per minute": f"{rate:.2f}",
            "of linear": f"{rate / (int(workers) * measured['1']):.2f}",
        }
        for workers, rate in measured.items()
    ]
    text = f"Trials of one network, one thread each; medians of three searches on {where}."
    return [text, markdown_table(rows)]


def _measure_overhead() -> dict[str, float]:
    """Return the seconds per trial of storage and tracking in a study of many trials, and those of a default trial."""
    params = default_params()
    epochs = params.tuning.model(MODEL).epochs
    seconds = []
    with TemporaryDirectory() as folder, chdir(folder):
        study = open_study(*open_storage(), MODEL, params, {})
        name, attributes = study.study_name, study.user_attrs

        def track_trial(parent: str) -> None:
            trial = claim_trial(study, params, MODEL, OVERHEAD_TRIALS)
            assert trial
            losses = [(trial.number + 1) / epoch for epoch in range(1, epochs + 1)]
            for epoch, loss in enumerate(losses, start=1):
                trial.report(loss, epoch)
                trial.should_prune()
            for key in ATTRIBUTES:
                if key != "failure":
                    trial.set_user_attr(key, 1.0)
            trial.set_user_attr("curve", losses)
            study.tell(trial, losses[-1])
            log_trials(parent, name, [trial_record(study, trial.number)])

        with study_run(name, attributes["id"], attributes["definition"]) as parent:
            seconds = [seconds_of(lambda: track_trial(parent)) for _ in range(OVERHEAD_TRIALS)]
    [trial] = _search(_params(space=ONE_NETWORK), 1, 1).trials
    return {"seconds": median(seconds[OVERHEAD_WARM_UP:]), "trial_seconds": trial.user_attrs["seconds"]}


def _describe_overhead(measured: dict[str, float], where: str) -> list[str]:
    share = measured["seconds"] / measured["trial_seconds"]
    return [
        f"What Optuna's journal and MLflow's store take for a trial with all its epochs: {measured['seconds']:.2f} s. "
        f"This is {share:.1%} of the {measured['trial_seconds']:.0f} s of a trial with today's parameters ({MODEL}), "
        f"on {where}.",
    ]


def _measure_trials() -> dict[str, Any]:
    """Return time and memory of the first and the last of many short trials."""
    params = _params(replicates=1, epochs=1, space=ONE_NETWORK, startup_trials=1000)
    memory: list[float] = []

    def note(end: End, _number: int) -> None:
        if end == "completed":
            memory.append(psutil.Process().memory_info().rss / 1e6)

    with TemporaryDirectory() as folder:
        trials = _search(params, MANY_TRIALS, joblib.cpu_count(), note, folder).trials
        peaks = [trial.user_attrs["peak_megabytes"] for trial in trials]
        pairs = [
            {
                "first": _search(params, 1, 1).seconds,
                "last": _search(params, MANY_TRIALS + number, 1, folder=folder).seconds,
            }
            for number in range(1, PAIRS + 1)
        ]
    return {
        "seconds": {end: median(pair[end] for pair in pairs) for end in ("first", "last")},
        "ratio": median(pair["last"] / pair["first"] for pair in pairs),
        "peak_megabytes": {"first": median(peaks[:5]), "last": median(peaks[-5:])},
        "searcher_megabytes": {"first": memory[0], "last": memory[-1]},
    }


def _describe_trials(measured: dict[str, Any], where: str) -> list[str]:
    labels = {
        "seconds": "a trial and its process, s",
        "peak_megabytes": "peak memory of a trial, MB",
        "searcher_megabytes": "memory of the process that searches, MB",
    }
    rows = [
        {"": label} | {end: f"{measured[key][end]:.1f}" for end in ("first", "last")} for key, label in labels.items()
    ]
    return [
        f"{MANY_TRIALS} short trials of one network on {where}. Seconds are medians of {PAIRS} pairs of trials: one in "
        f"a new study, one in the study with {MANY_TRIALS}, in turn. The median ratio of a pair is "
        f"{measured['ratio']:.2f}. The memory of a trial is the median of five.",
        markdown_table(rows),
    ]


def _measure_pruning() -> list[dict[str, Any]]:
    """Return the epochs used and the best loss found, with and without pruning, from the same seeds."""
    studies = []
    for seed in range(STUDIES):
        row: dict[str, Any] = {"seed": seed}
        never = {"warmup_epochs": default_params().tuning.model(MODEL).epochs}
        for name, changes in (("without", never), ("with", {})):
            params = _params(replicates=1, seed=seed, clips_per_class=STUDY_CLIPS, **changes)
            seconds, trials = _search(params, STUDY_TRIALS, joblib.cpu_count())
            completed = [trial for trial in trials if trial.state == TrialState.COMPLETE]
            best = min(loss for trial in completed if (loss := trial.value) is not None)
            epochs = sum(len(trial.intermediate_values) for trial in trials)
            row[name] = {"epochs": epochs, "best": best, "seconds": seconds}
        print(row, flush=True)
        studies.append(row)
    return studies


def _describe_pruning(measured: list[dict[str, Any]], where: str) -> list[str]:
    shares = [row["with"]["epochs"] / row["without"]["epochs"] for row in measured]
    rows = [
        {
            "seed": str(row["seed"]),
            "epochs without": str(row["without"]["epochs"]),
            "epochs with": str(row["with"]["epochs"]),
            "share": f"{share:.0%}",
            "best loss without": f"{row['without']['best']:.4f}",
            "best loss with": f"{row['with']['best']:.4f}",
        }
        for row, share in zip(measured, shares, strict=True)
    ]
    without, pruned = (median(row[name]["best"] for row in measured) for name in ("without", "with"))
    return [
        f"{len(measured)} pairs of searches, without and with pruning, on {where}. Each search has {STUDY_TRIALS} "
        f"trials of a CNN-LSTM, one replicate per trial, on {STUDY_CLIPS} clips per class.",
        markdown_table(rows),
        f"Medians: {median(shares):.0%} of the epochs; best loss {without:.4f} without, {pruned:.4f} with pruning.",
    ]


def _measure_retrained() -> dict[str, Any]:
    """Return validation losses and latency of each search's best and of params.yaml, from fresh seeds."""
    params = default_params()
    results: dict[str, Any] = {}
    for name in CONTENDERS:
        if not (path := ROOT / TUNING_REPORTS / name / "best.json").exists():
            print(f"{name}: left out: no {path.relative_to(ROOT)}; search first: make tune MODEL={name}")
            continue
        best = read_json(path)
        variants = {"params.yaml": {}, "search": best["values"]}
        models = {variant: _with_values(params, name, values) for variant, values in variants.items()}
        with local_engine() as engine:
            tasks = [as_task(_train, name, model, seed) for seed in FRESH_SEEDS for model in models.values()]
            losses = run_tasks(engine, tasks, 1)
            # With all threads, so that one task runs at a time.
            latencies = run_tasks(
                engine, [as_task(_latency, name, model) for model in models.values()], joblib.cpu_count()
            )
        by_variant = {variant: losses[place :: len(models)] for place, variant in enumerate(models)}
        by_variant |= {"notebook": some} if (some := _notebook_losses(name)) else {}
        results[name] = {
            "best": best,
            "losses": by_variant,
            "differences": {
                variant: _difference(by_variant["search"], losses)
                for variant, losses in by_variant.items()
                if variant != "search"
            },
            "latency_milliseconds": dict(zip(models, latencies, strict=True)),
        }
    return results


def _with_values(params: Params, name: str, values: Mapping[str, Any]) -> ModelParams:
    """Return a model's section with other values, and with the epochs of a trial."""
    section = params.model(name)
    changed = {**section.model_dump(), **values, "epochs": params.tuning.model(name).epochs}
    return type(section).model_validate(changed)


def _notebook_losses(name: str) -> list[float]:
    """Return the lowest validation loss of each seed that benchmarks.recipe trained with the notebook's settings."""
    epochs = pd.read_csv(DOCS / "recipe.csv").query(
        f"model == '{name}' and activation == 'relu' and batch_size == 32 and learning_rate == 0.001 "
        "and clipping == 'none' and schedule == 'constant'"
    )
    return [float(loss) for loss in epochs.groupby("seed")["validation_loss"].min()]


def _difference(ours: list[float], theirs: list[float]) -> list[float]:
    """Return the difference of the means, and the ends of its 95 % bootstrap interval."""
    interval = bootstrap(
        (ours, theirs), lambda a, b, axis: np.mean(a, axis=axis) - np.mean(b, axis=axis), method="percentile", rng=0
    ).confidence_interval
    return [mean(ours) - mean(theirs), float(interval.low), float(interval.high)]


def _train(name: str, model: ModelParams, seed: int) -> float:
    with importing_tensorflow():
        import keras

        from motionbench.execution.threads import fix_threads
        from motionbench.training.loop import build_replicate, fit_epochs
    fix_threads(1)
    keras.utils.clear_session()
    training, source = default_params().training, read_source()
    train, validation = (read_split(ROOT / folder) for folder in (TRAIN, VALIDATION))
    replicate = build_replicate(name, model, train, seed)
    fitted = fit_epochs(replicate, name, ReplicateKey(seed), model, training, source, train, validation)
    return min(epoch["validation_loss"] for epoch in fitted)


def _latency(name: str, model: ModelParams) -> float:
    with importing_tensorflow():
        from motionbench.execution.threads import fix_threads
        from motionbench.models.cost import measure_latency
        from motionbench.models.registry import build_model
    fix_threads(1)
    train = read_split(ROOT / TRAIN)
    built = build_model(name, model, train.clips.shape[1:], len(train.class_names))
    return median(measure_latency(built, train.clips) for _ in range(5))


def _describe_retrained(measured: dict[str, Any], where: str) -> list[str]:
    columns = {"params.yaml": "params.yaml", "notebook": "the notebook's settings"}
    rows, bests = [], []
    for name, each in measured.items():
        means = {variant: mean(losses) for variant, losses in each["losses"].items()}
        differences = {
            columns[variant]: f"{means[variant]:.2g} ({found:+.2g}: {low:+.2g} to {high:+.2g})"
            for variant, (found, low, high) in each["differences"].items()
        }
        latency = each["latency_milliseconds"]
        rows.append(
            {"": name, "search's best": f"{means['search']:.2g}"}
            | differences
            | {"latency": f"{latency['params.yaml']:.1f}, {latency['search']:.1f}"}
        )
        best = each["best"]
        values = ", ".join(f"{key} {value}" for key, value in best["values"].items())
        found_in = f"{name}: trial {best['number']} of {best['trials']}, {values}"
        bests.append(f"{found_in}; search loss {best['validation_loss']:.4f}.")
    return [
        f"Each search's best and params.yaml, trained from {len(FRESH_SEEDS)} fresh seeds for the epochs of a trial, "
        f"on {where}. The layers in params.yaml are those of the reference notebook. *The notebook's settings* are the "
        "same layers with ReLU, batches of 32 and a learning rate of 0.001, from the ten seeds of "
        "docs/results/recipe.md, for as many epochs. The cells show the mean of the lowest validation losses, in nats; "
        "in brackets, the search's best minus this mean, with a 95 % bootstrap interval. Latency is in ms: of "
        "params.yaml, then of the search's best.",
        markdown_table(rows),
        *bests,
    ]


class Part(NamedTuple):
    """A part of the benchmark: its heading, how it is measured, and how its results are described."""

    title: str
    measure: Callable[[], Any]
    describe: Callable[[Any, str], list[str]]


PARTS: Mapping[str, Part] = {
    "workers": Part("Workers", _measure_workers, _describe_workers),
    "overhead": Part("Storage and tracking", _measure_overhead, _describe_overhead),
    "trials": Part("From the first trial to the last", _measure_trials, _describe_trials),
    "pruning": Part("Pruning", _measure_pruning, _describe_pruning),
    "retrained": Part("The best trials, trained again", _measure_retrained, _describe_retrained),
}


if __name__ == "__main__":
    main()
