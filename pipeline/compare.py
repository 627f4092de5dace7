"""Stage `compare`: what the answers to the held-out clips show, as figures, a report and a champion."""

import os

from motionbench.core import paths
from motionbench.core.errors import run_command
from motionbench.core.files import atomic_outputs, write_json
from motionbench.core.inputs import read_inputs
from motionbench.data.splits import join, read_source, read_test
from motionbench.params.loading import load_params, stage_params
from pipeline import STARTED


def main() -> None:
    """Write metrics/comparison/, metrics/comparison_timing.json and reports/comparison/, and print the verdict."""
    params = load_params()
    inputs = read_inputs("compare", stage_params(params, "compare"), STARTED)
    source = read_source()
    split = join([read_test(fold) for fold in source.fold_numbers()])
    # Imported late: keeps error messages fast.
    from motionbench.evaluation.audit import audit, summarise_audit
    from motionbench.evaluation.comparison import write_comparison
    from motionbench.evaluation.costs import read_costs
    from motionbench.evaluation.held_out import held_out_clips
    from motionbench.evaluation.predictions import read_predictions
    from motionbench.evaluation.results import score_models
    from motionbench.evaluation.verdict import check_controls, choose_champion, clip_notes, search_notes, verdict
    from motionbench.reporting.pictures import draw_pictures
    from motionbench.reporting.report import print_summary, write_reports
    from motionbench.tracking.runs import stage_run
    from motionbench.training.results import read_trainings

    predictions = read_predictions(inputs.md5s)
    trained, costs = read_trainings(predictions.models), read_costs(predictions.models)
    clips = held_out_clips(predictions)
    with stage_run("compare", inputs.params) as run:
        models = score_models(predictions, trained, costs, clips)
        champion, why = choose_champion(models, clips, params.gate)
        if champion and os.environ.get("DVC_EXP_NAME"):  # DVC's, while `dvc exp run` runs
            how = "apply it, then dvc repro --single-item --force compare"
            champion, why = None, f"{why} An experiment makes none: {how}."
        archive = paths.replicate_path(paths.MODELS / champion, trained[champion].best) if champion else None
        findings = audit(models, clips, source)
        sentences = [
            verdict(models, clips), check_controls(models, clips, source.source),
            *([summarise_audit(findings)] if findings else []),
            *search_notes(models, source.folds), why, *run.old_champion(inputs.md5s, chosen=champion is not None),
            *clip_notes(source, clips),
        ]  # fmt: skip
        outputs = (paths.COMPARISON_METRICS, paths.COMPARISON_TIMING, paths.COMPARISON_REPORT)
        with atomic_outputs(*outputs) as (metrics, timing, report):
            write_comparison(metrics, timing, models, clips, archive)
            if findings:
                write_json(metrics / "audit.json", [finding._asdict() for finding in findings])
            histories = {name: training.history for name, training in trained.items()}
            seed = predictions.perturbation_seed
            pictures = draw_pictures(report, models, histories, split, clips.perturbed, seed, source)
            write_reports(report, models, clips, sentences, findings, pictures, run.origin())
        inputs.write()
    inputs.check()
    print_summary(models, sentences, paths.COMPARISON_REPORT / "report.html")


if __name__ == "__main__":
    run_command(main)
