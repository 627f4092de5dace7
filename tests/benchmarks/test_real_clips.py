"""The page of real clips says what made-up predictions show, and no more."""

import numpy as np

from benchmarks.real_clips import Measured, as_markdown
from motionbench.evaluation.predictions import UNCHANGED, Condition, Predictions


def measured(name: str, skill: dict[str, float], seeds: int = 4) -> Measured:
    """Two classes in 20 groups of 10 clips; each model is right on this share of the clips."""
    labels, rng = np.arange(200) % 2, np.random.default_rng(0)
    probabilities = {}
    for model, share in skill.items():
        right = rng.random((seeds, 200)) < share
        probabilities[model] = np.eye(2, dtype=np.float32)[np.where(right, labels, 1 - labels)]
    unchanged = Condition(UNCHANGED, 0.0, np.arange(200), labels, probabilities)
    groups = np.array([f"person {number // 10}" for number in range(200)], object)
    table = Predictions(("bow", "wave"), 2, tuple(range(seeds)), 0, None, None, groups, unchanged, [unchanged], {})
    return Measured(name, table, ["metadata fires: what files say about themselves tells the class"], 90.0)


def test_the_page_answers_three_questions_of_each_set() -> None:
    models = ("cnn_lstm", "cnn3d", "pretrained_lstm", "pretrained_linear", "frame_differences", "pretrained_bag")
    skills = {"ordered": (0.2, 0.4, 0.99, 0.75, 0.5, 0.5), "blind": (0.5, 0.9, 0.9, 0.9, 0.88, 0.9)}
    page = "\n".join(
        as_markdown([measured(name, dict(zip(models, each, strict=True))) for name, each in skills.items()])
    )
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("|")]
    assert rows[2] == ["ordered", "200, 2, 20", "0.500", "yes", "yes", "yes"]
    assert rows[3] == ["blind", "200, 2, 20", "0.500", "not shown", "not shown", "not shown"]
    assert "pretrained_lstm is better than pretrained_bag; pretrained_linear" in page
    assert "is not shown to be better than cnn3d" in page
    assert "Leak audit: metadata fires: what files say about themselves tells the class." in page


def test_one_seed_tells_of_trained_networks_alone() -> None:
    skill = {"cnn_lstm": 0.2, "pretrained_lstm": 0.99, "frame_differences": 0.5, "pretrained_bag": 0.5}
    page = "\n".join(as_markdown([measured("once", skill, seeds=1)]))
    assert "| these trained networks " in page
    assert "cnn_lstm has worse trained networks than frame_differences; pretrained_lstm has better trained" in page
    assert " is better than " not in page
