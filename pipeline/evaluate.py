"""Stage `evaluate`: the predictions of all models of the held-out clips, which no earlier stage has used."""

from motionbench.core.commands import run_command
from motionbench.core.files import atomic_outputs
from motionbench.core.inputs import read_inputs
from motionbench.core.paths import EVALUATION_TIMING, ONNX, PREDICTIONS
from motionbench.execution.cluster import open_engine
from motionbench.execution.engine import EventCallback
from motionbench.execution.runtime import importing_tensorflow
from motionbench.params.loading import load_params, stage_params
from pipeline import STARTED


def main() -> None:
    """Write data/predictions.parquet, metrics/evaluation_timing.json and data/onnx/."""
    params = load_params()
    inputs = read_inputs("evaluate", stage_params(params, "evaluate"), STARTED)
    with open_engine() as engine:
        engine.prepare(import_inference, engine.slots(params.training.threads))
        # Imported late: keeps error messages fast.
        from motionbench.evaluation.costs import write_costs
        from motionbench.evaluation.held_out import measure_costs, predict_held_out, write_onnx_files
        from motionbench.evaluation.predictions import write_predictions
        from motionbench.tracking.runs import stage_run

        with stage_run("evaluate", inputs.params, check=inputs.check):
            predictions = predict_held_out(engine, params, inputs.md5s)
            with atomic_outputs(ONNX, PREDICTIONS, EVALUATION_TIMING) as (onnx, table, timing):
                for reason in write_onnx_files(engine, params, predictions, onnx):
                    print(reason)
                write_predictions(table, predictions)
                write_costs(timing, measure_costs(engine, params, predictions.models, onnx))
            inputs.write()
    inputs.check()


def import_inference(_on_event: EventCallback) -> None:
    """Import what predicts clips."""
    with importing_tensorflow():
        from motionbench.models import archive, cost  # noqa: F401 # for the tasks that come after


if __name__ == "__main__":
    run_command(main)
