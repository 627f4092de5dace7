import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import brier_score_loss, log_loss

from motionbench.comparison.probabilities import calibrate, reliability

LABELS = np.array([0, 0, 1, 1])


def of_first(*probabilities: float) -> NDArray[np.float64]:
    """One replicate's predictions, from its probabilities of the first of two classes."""
    first = np.array(probabilities)
    return np.stack([first, 1 - first], axis=1)[np.newaxis]


def test_scores_are_those_worked_out_by_hand() -> None:
    found = calibrate(of_first(0.9, 0.6, 0.3, 0.8), LABELS)
    assert found.log_loss == pytest.approx(-np.log([0.9, 0.6, 0.7, 0.2]).mean())
    # Both classes are as far from the true class.
    assert found.brier_score == pytest.approx(2 * np.mean([0.01, 0.16, 0.09, 0.64]))
    assert found.guessing_loss == pytest.approx(np.log(2))
    # Confidences 0.6, 0.7, 0.8 and 0.9, a bin each, of which the third is wrong.
    assert found.calibration_error == pytest.approx(np.mean([0.4, 0.3, 0.8, 0.1]))


def test_scores_are_those_of_scikit_learn_and_means_over_replicates() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(3, size=50)
    probabilities = random.dirichlet([1, 2, 3], size=(2, 50))
    found = calibrate(probabilities, labels)
    assert found.log_loss == pytest.approx(np.mean([log_loss(labels, each) for each in probabilities]))
    assert found.brier_score == pytest.approx(
        np.mean([brier_score_loss(labels, each, scale_by_half=False) for each in probabilities])
    )


def test_sure_and_wrong_has_a_finite_loss() -> None:
    assert calibrate(of_first(0, 1, 0, 0), LABELS).log_loss == pytest.approx(-np.log(1e-7) / 4)


def test_a_model_that_guesses_has_learned_nothing() -> None:
    labels = np.arange(80) % 2
    half, sees = of_first(*[0.5] * 80), of_first(*np.where(labels == 0, 0.9, 0.1))
    overconfident = of_first(*np.where((labels == 0) == (np.arange(80) > 8), 1.0, 0.0))
    assert calibrate(overconfident, labels).log_loss > calibrate(half, labels).guessing_loss
    # Seen: "learned nothing" of one that is always wrong.
    found = calibrate(np.concatenate([half, sees, overconfident, 0.5 + (half - sees) / 2]), labels)
    assert found.guesses == (True, False, False, False)
    assert found.overconfident == (False, False, True, True)
    # 45 of 80 right with a loss a little below that of guessing is about the same; the shares of classes are guessing.
    little = np.where((labels == 0) == (np.arange(80) < 45), 0.51, 0.49)
    assert 0.98 < calibrate(of_first(*little), labels).log_loss / np.log(2) < 1
    assert calibrate(of_first(*little), labels).guesses == (True,)
    shares = of_first(*[0.75] * 80)
    assert calibrate(shares, np.arange(80) % 4 // 3).guesses == (True,)


def test_21_of_30_right_but_too_sure_is_overconfident() -> None:
    # Seen: "learned nothing".
    labels = np.arange(30) % 2
    found = calibrate(of_first(*np.where((labels == 0) == (np.arange(30) >= 9), 0.99, 0.01)), labels)
    assert found.log_loss > 1.9 * found.guessing_loss
    assert (found.guesses, found.overconfident) == ((False,), (True,))


def test_the_calibration_error_is_the_mean_of_the_replicates() -> None:
    # One replicate is too sure, the other not sure enough: together they looked calibrated.
    labels = np.zeros(100, np.int64)
    answers = np.concatenate([of_first(*[0.75] * 100), of_first(*[0.75] * 50, *[0.25] * 50)])
    assert calibrate(answers, labels).calibration_error == pytest.approx(0.25)


def test_a_model_that_predicts_nan_has_learned_nothing() -> None:
    found = calibrate(np.concatenate([of_first(0.9, 0.9, 0.1, 0.1), of_first(*[np.nan] * 4)]), LABELS)
    assert found.guesses == (False, True)
    assert np.isnan([found.log_loss, found.brier_score, found.calibration_error]).all()


def test_clips_of_one_class_cannot_tell_who_guesses() -> None:
    found = calibrate(of_first(0.5, 0.5), np.array([0, 0]))
    assert (found.guesses, found.overconfident) == ((False,), (False,))


def test_a_reliability_diagram_has_a_point_per_bin_with_predictions() -> None:
    points = reliability(of_first(0.95, 0.05, 1.0, 0.55), np.array([0, 0, 0, 0]))
    assert points["predictions"].tolist() == [1, 3]
    assert points["confidence"].tolist() == pytest.approx([0.55, (0.95 + 0.95 + 1) / 3])
    assert points["accuracy"].tolist() == pytest.approx([1, 2 / 3])
    assert reliability(of_first(np.nan), np.array([0])).empty
