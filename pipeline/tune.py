"""`make tune`: search better parameters for one model or all. Not a stage: it changes nothing that stages read."""

import argparse
import sys

from motionbench.core.commands import run_command
from motionbench.core.errors import UserError
from motionbench.core.paths import PARAMS
from motionbench.data.augmentation import labels_when_flipped
from motionbench.data.folds import read_training_clips
from motionbench.data.splits import read_dataset_info
from motionbench.execution.cluster import open_engine
from motionbench.models.registry import SEARCHABLE
from motionbench.params.loading import load_params
from motionbench.params.schema import TuningParams
from motionbench.tuning.space import check_search_space


def main() -> None:
    """Search, and write reports/tuning/<model>/."""
    params = load_params()
    arguments = _read_arguments(params.tuning)
    enabled = [name for name in params.enabled_models() if name in SEARCHABLE]
    models = [arguments.model] if arguments.model else enabled
    for model_name in models:
        if model_name not in enabled:
            raise UserError(f"MODEL: {model_name} is switched off; set {model_name}.enabled: true in {PARAMS}")
        check_search_space(params, model_name)
    dataset = read_dataset_info()
    train, _ = read_training_clips(dataset.fold_numbers()[0])
    labels_when_flipped(params.training.augmentation, dataset, train.class_names)
    with open_engine() as engine:
        if arguments.workers > (slots := engine.slots(params.training.threads)):
            print(
                f"warning: WORKERS: {arguments.workers}: there are cores for {slots}, with {params.training.threads} "
                "threads each; trials will take longer",
                file=sys.stderr,
            )
        from motionbench.tuning.search import tune  # imported late: keeps error messages fast

        for model_name in models:
            tune(engine, model_name, params, arguments.trials, arguments.workers)


def _read_arguments(defaults: TuningParams) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="pipeline.tune", exit_on_error=False)
    parser.add_argument("--model", choices=SEARCHABLE)
    for option in ("trials", "workers"):
        parser.add_argument(f"--{option}", type=_positive, default=getattr(defaults, option))
    try:
        return parser.parse_args()
    except argparse.ArgumentError as error:
        option = str(error.argument_name).removeprefix("--").upper()
        raise UserError(f"{option}: {error.message}; as in make tune MODEL=convlstm TRIALS=40 WORKERS=4") from error


def _positive(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text} is not allowed: must be a whole number, at least 1")
    return int(text)


if __name__ == "__main__":
    run_command(main)
