"""What the tests of studies share."""

from collections.abc import Callable
from typing import Any

from optuna.study import Study
from optuna.trial import Trial

from motionbench.params.schema import Params
from motionbench.tuning.study import claim_trial, open_storage, open_study

Load = Callable[[dict[str, Any]], Params]
DATA = {"data/train": "1", "data/validation": "2"}


def opened(params: Params, data: dict[str, str] = DATA) -> Study:
    """Open the study of the ConvLSTM in the working directory."""
    return open_study(*open_storage(), "convlstm", params, data)


def claimed(study: Study, params: Params, trials: int) -> Trial:
    """Claim a trial that the study still has to give."""
    trial = claim_trial(study, params, "convlstm", trials)
    assert trial
    return trial


def finish(study: Study, params: Params, trials: int) -> None:
    """Complete trials, each with a loss made up from its values, until there are `trials`."""
    while trial := claim_trial(study, params, "convlstm", trials):
        study.tell(trial, trial.params["filters.1"] / 100)
