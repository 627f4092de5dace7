"""What the tests of studies share."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial

from motionbench.params.schema import Params
from motionbench.tuning.storage import open_storage
from motionbench.tuning.study import claim_trial, open_study

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


def claim_too_late(late: Study, params: Params, trials: int) -> None:
    """Claim a trial as a process does whose first look at the study came before the others' last claims."""
    look = late.get_trials
    first: Iterator[list[FrozenTrial]] = iter([[]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(late, "get_trials", lambda **options: next(first, look(**options)))
        assert claim_trial(late, params, "convlstm", trials) is None
