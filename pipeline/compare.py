"""Stage `compare`: all models on the test split, which no earlier stage has used."""

import os

from motionbench.core import paths
from motionbench.core.errors import run_command
from motionbench.core.files import atomic_outputs
from motionbench.data.splits import join, read_source, read_test
from motionbench.execution.engine import local_engine
from motionbench.models.registry import MODEL_NAMES
from motionbench.params.loading import load_params, stage_params


def main() -> None:
    """Write metrics/comparison/, metrics/comparison_timing.json and reports/comparison/, and print the verdict."""
    params = load_params()
    source = read_source()
    tests = [read_test(fold) for fold in source.fold_numbers()]
    test = join(tests)
    with local_engine() as engine:
        engine.prepare("motionbench.evaluation.scoring", engine.slots(params.training.threads))
        # Imported late: keeps error messages fast.
        from motionbench.evaluation.comparison import write_comparison
        from motionbench.evaluation.testing import evaluate_models
        from motionbench.evaluation.verdict import check_controls, choose_champion, clip_notes, search_notes, verdict
        from motionbench.reporting.pictures import draw_pictures
        from motionbench.reporting.report import print_summary, write_reports
        from motionbench.tracking.runs import stage_run
        from motionbench.training.results import read_training

        trained = {name: training for name in MODEL_NAMES if (training := read_training(name))}
        with stage_run("compare", stage_params(params, "compare")) as run:
            models = evaluate_models(engine, trained, params, tests)
            champion, why = choose_champion(models, test.labels, params.gate)
            if champion and os.environ.get("DVC_EXP_NAME"):  # DVC's, while `dvc exp run` runs
                how = "apply it, then dvc repro --single-item --force compare"
                champion, why = None, f"{why} An experiment makes none: {how}."
            archive = paths.replicate_path(paths.MODELS / champion, trained[champion].best) if champion else None
            sentences = [
                verdict(models, test.labels), check_controls(models, test.labels, source.source),
                *search_notes(models, source.folds), why, *clip_notes(source),
            ]  # fmt: skip
            outputs = (paths.COMPARISON_METRICS, paths.COMPARISON_TIMING, paths.COMPARISON_REPORT)
            with atomic_outputs(*outputs) as (metrics, timing, report):
                write_comparison(metrics, timing, models, test, archive)
                histories = {name: training.history for name, training in trained.items()}
                pictures = draw_pictures(report, models, histories, tests, params.perturbations)
                write_reports(report, models, test.class_names, sentences, pictures, run.origin())
    print_summary(models, sentences, paths.COMPARISON_REPORT / "report.html")


if __name__ == "__main__":
    run_command(main)
