import pytest

from motionbench.core.errors import UserError
from motionbench.tracking.model_registry import load_champion


@pytest.mark.usefixtures("runs")
def test_missing_champion_is_named_with_what_makes_one() -> None:
    with pytest.raises(UserError, match=r"no champion in MLflow's store sqlite:.*: make repro; .*: make mlflow-sync"):
        load_champion()
