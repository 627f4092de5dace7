"""What a search costs and gains: workers, overheads, memory, pruning, and its winners trained again from fresh seeds.

python -m benchmarks.search [PART ...] writes benchmarks/search/<part>.json for each part, then benchmarks/SEARCH.md
from all that are there. Parts: workers, overhead, trials, pruning, and retrained, which needs the best.json of both
models in reports/tuning/.
"""

import sys
import time
from collections.abc import Mapping
from contextlib import chdir, nullcontext
from functools import partial
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory
from typing import Any

import joblib
import numpy as np
import optuna
import pandas as pd
import psutil
from motionbench.execution.parallel import Report, run_side_by_side
from scipy.stats import bootstrap

import pipeline  # noqa: F401 # puts src/ on the path, as for the stages
from benchmarks.compare_layers import processor
from motionbench.core.files import read_json, write_json
from motionbench.data.sources import write_split
from motionbench.data.splits import read_split
from motionbench.execution.runtime import importing_tensorflow
from motionbench.models.registry import CONTENDERS
from motionbench.params.loading import load_params
from motionbench.params.schema import Params
from motionbench.tuning.search import search
from motionbench.tuning.study import claim_trial, finished, open_storage, open_study

HERE = Path(__file__).parent
RESULTS = HERE / "search"
ONE_NETWORK = {"filters": {"choices": [5]}, "learning_rate": {"choices": [0.005]}}  # so that all trials cost the same
WORKER_COUNTS = (1, 2, 4)
TRIALS_A_WORKER = 3
MANY_TRIALS, PAIRS = 50, 9
STUDIES, STUDY_TRIALS, STUDY_CLIPS = 5, 24, 10
FRESH_SEEDS = range(4000, 4010)


def main() -> None:
    """Measure the parts asked for, or all."""
    parts = {
        "workers": _workers, "overhead": _overhead, "trials": _trials, "pruning": _pruning, "retrained": _retrained,
    }  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    for name in sys.argv[1:] or parts:
        machine = f"{joblib.cpu_count()} cores ({processor()})"
        write_json(RESULTS / f"{name}.json", {"machine": machine, "measured": parts[name]()})
    measured = {name: read_json(path) for name in parts if (path := RESULTS / f"{name}.json").exists()}
    (HERE / "SEARCH.md").write_text(_as_markdown(measured), encoding="utf-8")


def _params(**changes: Any) -> Params:
    """Return the repository's parameters with others in the sections data, tuning and tuning.cnn_lstm."""
    content = load_params(HERE.parent / "params.yaml").model_dump()
    places = {"clips_per_class": content["data"]} | dict.fromkeys(("epochs", "space"), content["tuning"]["cnn_lstm"])
    for key, value in changes.items():
        places.get(key, content["tuning"])[key] = value
    return Params.model_validate(content)


def _search(
    params: Params, trials: int, workers: int, on_event: Any = lambda *_: None, folder: str | None = None
) -> dict[str, Any]:
    """Search for a CNN-LSTM in a new folder, or go on in `folder`; return seconds and the finished trials."""
    with nullcontext(folder) if folder else TemporaryDirectory() as place, chdir(place):
        for split in ("train", "validation"):
            Path("data", split).mkdir(parents=True, exist_ok=True)
            write_split(Path("data", split), split, params.data)
        storage, where = open_storage()
        study = open_study(storage, where, "cnn_lstm", params, {})
        started = time.perf_counter()
        search(storage, study, "cnn_lstm", params, trials, workers, on_event)
        return {"seconds": time.perf_counter() - started, "trials": finished(study)}


def _workers() -> dict[str, float]:
    """Trials a minute by number of workers, all trials with the same network and one thread; medians of three."""
    params = _params(replicates=1, epochs=6, space=ONE_NETWORK, startup_trials=1000)
    rates: dict[int, list[float]] = {workers: [] for workers in WORKER_COUNTS}
    for _ in range(3):
        for workers, each in rates.items():
            trials = TRIALS_A_WORKER * workers
            each.append(60 * trials / _search(params, trials, workers)["seconds"])
    return {str(workers): median(each) for workers, each in rates.items()}


def _overhead() -> dict[str, float]:
    """Seconds that storage and tracking take a trial in a study that has forty, and those of a default trial."""
    from motionbench import tracking

    params = load_params(HERE.parent / "params.yaml")
    epochs = params.tuning.cnn_lstm.epochs
    seconds = []
    with TemporaryDirectory() as folder, chdir(folder):
        study = open_study(*open_storage(), "cnn_lstm", params, {})
        with tracking.study_run(study.study_name, "benchmark", study.user_attrs["definition"]) as parent:
            for number in range(60):
                started = time.perf_counter()
                trial = claim_trial(study, params, "cnn_lstm", 1000)
                assert trial
                run_id = tracking.start_trial_run(parent, study.study_name, trial.number, trial.params)
                for epoch in range(1, epochs + 1):
                    measures = {"epoch": epoch, "loss": 1.0, "validation_loss": number / epoch, "accuracy": 0.5}
                    tracking.log_trial_epoch(run_id, measures)
                    trial.report(number / epoch, epoch)
                    trial.should_prune()
                for key in ("parameters", "flops", "latency_milliseconds", "seconds", "peak_megabytes"):
                    trial.set_user_attr(key, 1.0)
                study.tell(trial, number / epochs)
                tracking.end_trial_run(run_id, "completed", trial.user_attrs)
                seconds.append(time.perf_counter() - started)
    [trial] = _search(_params(space=ONE_NETWORK), 1, 1)["trials"]
    return {"seconds": median(seconds[20:]), "trial_seconds": trial.user_attrs["seconds"]}


def _trials() -> dict[str, Any]:
    """Time and memory of the first and the last of many short trials."""
    params = _params(replicates=1, epochs=1, space=ONE_NETWORK, startup_trials=1000)
    memory: list[float] = []

    def note(event: str, *_: Any) -> None:
        if event == "completed":
            memory.append(psutil.Process().memory_info().rss / 1e6)

    with TemporaryDirectory() as folder:
        trials = _search(params, MANY_TRIALS, joblib.cpu_count(), note, folder)["trials"]
        peaks = [trial.user_attrs["peak_megabytes"] for trial in trials]
        pairs = [
            {
                "first": _search(params, 1, 1)["seconds"],
                "last": _search(params, MANY_TRIALS + number, 1, folder=folder)["seconds"],
            }
            for number in range(1, PAIRS + 1)
        ]
    return {
        "seconds": {end: median(pair[end] for pair in pairs) for end in ("first", "last")},
        "ratio": median(pair["last"] / pair["first"] for pair in pairs),
        "peak_megabytes": {"first": median(peaks[:5]), "last": median(peaks[-5:])},
        "searcher_megabytes": {"first": memory[0], "last": memory[-1]},
    }


def _pruning() -> list[dict[str, Any]]:
    """Epochs spent and the best loss found, with and without pruning, by the same seeds."""
    studies = []
    for seed in range(STUDIES):
        row: dict[str, Any] = {"seed": seed}
        never = {"warmup_epochs": load_params(HERE.parent / "params.yaml").tuning.cnn_lstm.epochs}
        for name, changes in (("without", never), ("with", {})):
            params = _params(replicates=1, seed=seed, clips_per_class=STUDY_CLIPS, **changes)
            found = _search(params, STUDY_TRIALS, joblib.cpu_count())
            completed = [trial.value for trial in found["trials"] if trial.state == optuna.trial.TrialState.COMPLETE]
            epochs = sum(len(trial.intermediate_values) for trial in found["trials"])
            row[name] = {"epochs": epochs, "best": min(completed), "seconds": found["seconds"]}
        print(row, flush=True)
        studies.append(row)
    return studies


def _retrained() -> dict[str, Any]:
    """Validation loss and latency of each search's best and of params.yaml, from fresh seeds, for a trial's epochs."""
    params = load_params(HERE.parent / "params.yaml")
    results: dict[str, Any] = {}
    for name in CONTENDERS:
        best = read_json(HERE.parent / "reports/tuning" / name / "best.json")
        variants = {"params.yaml": {}, "search": best["values"]}
        tasks = [partial(_train, name, values, seed, params) for seed in FRESH_SEEDS for values in variants.values()]
        losses = run_side_by_side(tasks, 1)
        latencies = run_side_by_side(
            [partial(_latency, name, values, params) for values in variants.values()], joblib.cpu_count()
        )
        by_variant = {variant: losses[place :: len(variants)] for place, variant in enumerate(variants)}
        by_variant["source"] = _losses_of_the_sources_settings(name)
        results[name] = {
            "best": best,
            "losses": by_variant,
            "differences": {
                variant: _difference(by_variant["search"], by_variant[variant]) for variant in ("params.yaml", "source")
            },
            "latency_milliseconds": dict(zip(variants, latencies, strict=True)),
        }
    return results


def _losses_of_the_sources_settings(name: str) -> list[float]:
    """Return the lowest validation loss of each of the ten seeds that benchmarks.recipe trained, for as many epochs."""
    epochs = pd.read_csv(HERE.parent / "docs/recipe.csv").query(
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


def _train(name: str, values: Mapping[str, Any], seed: int, params: Params, _report: Report) -> float:
    with importing_tensorflow():
        import keras

        from motionbench.execution.runtime import fix_threads
        from motionbench.training.loop import fit_epochs
    fix_threads(1)
    keras.utils.clear_session()
    section = params.model(name)
    changed = {**section.model_dump(), **values, "epochs": params.tuning.model(name).epochs}
    model = type(section).model_validate(changed)
    train, validation = (read_split(HERE.parent / "data" / split, params.data) for split in ("train", "validation"))
    return min(epoch["validation_loss"] for _, epoch in fit_epochs(name, seed, model, train, validation))


def _latency(name: str, values: Mapping[str, Any], params: Params, _report: Report) -> float:
    with importing_tensorflow():
        from motionbench.execution.runtime import fix_threads
        from motionbench.models.cost import measure_latency
        from motionbench.models.registry import build_model
    fix_threads(1)
    train = read_split(HERE.parent / "data/train", params.data)
    section = params.model(name)
    model = type(section).model_validate({**section.model_dump(), **values})
    built = build_model(name, model, train.clips.shape[1:], len(train.class_names))
    return median(measure_latency(built, train.clips) for _ in range(5))


def _as_markdown(parts: Mapping[str, Any]) -> str:
    machines = {name: part["machine"] for name, part in parts.items()}
    measured = {name: part["measured"] for name, part in parts.items()}
    lines = ["# What a search costs and gains", "", "By `make bench`, part by part; each names its machine."]
    if workers := measured.get("workers"):
        alone = workers["1"]
        lines += ["", "## Workers", ""]
        lines += [f"Trials of one network, one thread each; medians of three searches on {machines['workers']}.", ""]
        lines += ["| workers | trials a minute | of linear |", "|---|---|---|"]
        lines += [f"| {n} | {rate:.2f} | {rate / (int(n) * alone):.2f} |" for n, rate in workers.items()]
    if overhead := measured.get("overhead"):
        share = overhead["seconds"] / overhead["trial_seconds"]
        lines += [
            "", "## Storage and tracking", "",
            f"What Optuna's journal and MLflow's store take for a trial with all its epochs: {overhead['seconds']:.2f} "
            f"s, {share:.1%} of the {overhead['trial_seconds']:.0f} s of a trial with today's parameters (cnn_lstm), "
            f"on {machines['overhead']}.",
        ]  # fmt: skip
    if trials := measured.get("trials"):
        lines += [
            "", "## From the first trial to the last", "",
            f"{MANY_TRIALS} short trials of one network on {machines['trials']}. Seconds are medians of {PAIRS} trials "
            f"each, of new studies and of the one with {MANY_TRIALS}, in turn; the median ratio of a pair is "
            f"{trials['ratio']:.2f}. A trial's memory is the median of five.",
            "", "| | first | last |", "|---|---|---|",
        ]  # fmt: skip
        labels = {
            "seconds": "a trial and its process, s", "peak_megabytes": "a trial's peak memory, MB",
            "searcher_megabytes": "memory of the process that searches, MB",
        }  # fmt: skip
        lines += [f"| {label} | {trials[k]['first']:.1f} | {trials[k]['last']:.1f} |" for k, label in labels.items()]
    if pruning := measured.get("pruning"):
        lines += [
            "", "## Pruning", "",
            f"{len(pruning)} searches of {STUDY_TRIALS} trials of a CNN-LSTM, one replicate each, on {STUDY_CLIPS} "
            f"clips a class, without and with it, on {machines['pruning']}.",
            "", "| seed | epochs without | epochs with | share | best loss without | best loss with |",
            "|---|---|---|---|---|---|",
        ]  # fmt: skip
        for row in pruning:
            lines.append(
                f"| {row['seed']} | {row['without']['epochs']} | {row['with']['epochs']} "
                f"| {row['with']['epochs'] / row['without']['epochs']:.0%} "
                f"| {row['without']['best']:.4f} | {row['with']['best']:.4f} |"
            )
        share = median(row["with"]["epochs"] / row["without"]["epochs"] for row in pruning)
        without, pruned = (median(row[name]["best"] for row in pruning) for name in ("without", "with"))
        lines += ["", f"Medians: {share:.0%} of the epochs; best loss {without:.4f} without, {pruned:.4f} with it."]
    if retrained := measured.get("retrained"):
        lines += [
            "", "## The winners, trained again", "",
            f"Each search's best and params.yaml, whose layers are the source's, from {len(FRESH_SEEDS)} fresh seeds, "
            f"for a trial's epochs, on {machines['retrained']}; and the source's settings, which are the same layers "
            "with ReLU, batches of 32 and a step size of 0.001, from the ten seeds of docs/recipe.md, for as many "
            "epochs. Lowest validation loss in nats, means; in brackets the search's best minus these, with a 95 % "
            "bootstrap interval. Latency in ms, of params.yaml and of the search's best.",
            "", "| | search's best | params.yaml | the source's settings | latency |",
            "|---|---|---|---|---|",
        ]  # fmt: skip
        for name, each in retrained.items():
            means = {variant: mean(losses) for variant, losses in each["losses"].items()}
            cells = [
                f"{means[variant]:.2g} ({found:+.2g}: {low:+.2g} to {high:+.2g})"
                for variant, (found, low, high) in each["differences"].items()
            ]
            latency = each["latency_milliseconds"]
            lines.append(
                f"| {name} | {means['search']:.2g} | {' | '.join(cells)} "
                f"| {latency['params.yaml']:.1f}, {latency['search']:.1f} |"
            )
        for name, each in retrained.items():
            best = each["best"]
            values = ", ".join(f"{key} {value}" for key, value in best["values"].items())
            lines += [
                "",
                f"{name}: trial {best['number']} of {best['trials']}, {values}; "
                f"search loss {best['validation_loss']:.4f}.",
            ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
