"""Stage `compare`: what the predictions of the held-out clips show, as figures, a report and a champion."""

import os
import shutil

from motionbench.core import paths
from motionbench.core.commands import run_command
from motionbench.core.dvc_files import run_again
from motionbench.core.files import atomic_outputs
from motionbench.core.inputs import read_inputs
from motionbench.data.folds import join, read_test
from motionbench.data.splits import read_dataset_info
from motionbench.models.registry import contenders_among
from motionbench.params.loading import load_params, stage_params
from pipeline import STARTED


def main() -> None:
    """Write metrics/comparison/, metrics/comparison_timing.json and reports/comparison/, and print the verdict."""
    params = load_params()
    inputs = read_inputs("compare", stage_params(params, "compare"), STARTED)
    dataset = read_dataset_info()
    split = join([read_test(fold) for fold in dataset.fold_numbers()])
    # Imported late: keeps error messages fast.
    from motionbench.comparison.findings import compare_models
    from motionbench.comparison.notes import read_applied_search
    from motionbench.comparison.tables import write_comparison
    from motionbench.evaluation.costs import read_costs
    from motionbench.evaluation.predictions import check_predictions, read_predictions
    from motionbench.reporting.pictures import draw_pictures
    from motionbench.reporting.report import print_summary, write_reports
    from motionbench.tracking.runs import stage_run
    from motionbench.training.results import read_trainings

    predictions = read_predictions()
    check_predictions(predictions, inputs.md5s, params.perturbations)
    trained, costs = read_trainings(predictions.models), read_costs(predictions.models)
    searches = {name: read_applied_search(name, trained[name]) for name in contenders_among(trained)}
    with stage_run("compare", inputs.params, check=inputs.check) as run:
        findings = compare_models(predictions, trained, costs, searches, dataset, params.gate)
        if os.environ.get("DVC_EXP_NAME"):  # DVC's, while `dvc exp run` runs
            none = f" An experiment makes none: apply it, then {run_again('compare')}." if findings.champion else ""
            findings = findings._replace(champion=None, challenger=None, reason=f"{findings.reason}{none}")
        champion_in_use = run.describe_champion_in_use(inputs.md5s, chosen=findings.champion is not None)
        notes = [*findings.notes, findings.reason, *champion_in_use]
        outputs = (paths.COMPARISON_METRICS, paths.COMPARISON_TIMING, paths.COMPARISON_REPORT)
        with atomic_outputs(*outputs) as (metrics, timing, report):
            write_comparison(metrics, timing, findings)
            write_reports(report, findings, notes, draw_pictures(report, findings, split), run.origin())
            if findings.champion:  # a fixed path, for `dvc artifacts get`
                shutil.copyfile(findings.champion, report / "champion.keras")
        inputs.write()
    print_summary(findings, notes, paths.COMPARISON_REPORT / "report.html")
    inputs.check()


if __name__ == "__main__":
    run_command(main)
