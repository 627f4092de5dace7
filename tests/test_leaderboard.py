from pathlib import Path
from typing import Any

from motionbench.leaderboard import leaderboard_rows
from tests.conftest import run


def experiment(name: str | None, accuracy: float | None, **params: object) -> dict[str, Any]:
    measures = {
        "cnn_lstm.accuracy": accuracy,
        "convlstm.accuracy": 0.5,
        "difference.accuracy": accuracy and accuracy - 0.5,
        "difference.low": -0.1,
        "difference.high": 0.3,
        "difference.better": "cnn_lstm" if accuracy == 0.9 else "no difference shown",
    }
    return {"Experiment": name, "rev": "workspace" if name is None else "1234567", **params, **measures}


def test_experiments_are_ranked_and_say_what_they_changed() -> None:
    experiments = [
        experiment(None, 0.6, **{"data.seed": 0.0, "training.seeds": "[0, 1]"}),
        experiment("better", 0.9, **{"data.seed": 1.0, "training.seeds": "[0]"}),
        experiment("worse", 0.55, **{"data.seed": 0.0, "training.seeds": "[0, 1]"}),
        experiment("failed", None, **{"data.seed": 2.0, "training.seeds": "[0, 1]"}),
        experiment("older", 0.9) | {"difference.accuracy": "!"},
    ]
    assert leaderboard_rows(experiments, ["data.seed", "training.seeds"]) == [
        ["better", "data.seed=1\ntraining.seeds=[0]", "0.9000", "0.5000", "+0.400 (-0.100 to +0.300)", "cnn_lstm"],
        ["workspace", "-", "0.6000", "0.5000", "+0.100 (-0.100 to +0.300)", "-"],
        ["worse", "-", "0.5500", "0.5000", "+0.050 (-0.100 to +0.300)", "-"],
    ]


def test_the_workspace_stands_on_the_leaderboard(reproduced: Path) -> None:
    done = run(reproduced, "python", "-m", "pipeline.leaderboard")
    assert done.returncode == 0, done.stderr
    assert "workspace" in done.stdout
