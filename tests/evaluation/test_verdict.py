from itertools import combinations

import numpy as np
import pytest

from motionbench.evaluation.results import ModelResult, Search
from motionbench.evaluation.verdict import check_controls, choose_champion, clip_notes, search_notes, verdict
from motionbench.params.schema import GateParams
from tests.conftest import SOURCE_RECORD
from tests.evaluation.made_up import CLIPS, FIVE, GROUPED, THREE, models, register, result

PERFECT, GOOD, BAD = result(80, 80), result(80, 79), result(40, 44)
LIMIT = "With 80 clips the test could not have shown a difference below 0.075."


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        (
            PERFECT,
            PERFECT,
            "No difference shown: every replicate of both models classifies all 80 test clips right. With so few clips "
            "that is compatible, at 95 % confidence, with a true accuracy as low as 0.955, and the test could not have "
            "shown a difference below 0.075.",
        ),
        (
            GOOD,
            PERFECT,
            "No difference shown: accuracy cnn_lstm less convlstm -0.006 (95 % interval -0.025 to +0.000, exact paired "
            f"test p = 1). {LIMIT}",
        ),
        (
            PERFECT,
            BAD,
            "cnn_lstm is better than convlstm: accuracy cnn_lstm less convlstm +0.475 (95 % interval +0.362 to +0.588, "
            "exact paired test p = 1.8e-12).",
        ),
        (
            BAD,
            PERFECT,
            "convlstm is better than cnn_lstm: accuracy cnn_lstm less convlstm -0.475 (95 % interval -0.588 to -0.362, "
            "exact paired test p = 1.8e-12).",
        ),
        (
            result(80, 40),
            result(20, 70),
            "No difference shown: accuracy cnn_lstm less convlstm +0.188 (95 % interval -0.375 to +0.762, exact paired "
            f"test p = 1.9e-09). {LIMIT}",
        ),
    ],
)
def test_the_verdict_claims_a_difference_only_where_shown(ours: ModelResult, theirs: ModelResult, said: str) -> None:
    assert verdict(models(ours, theirs), CLIPS) == said


def claims(text: str) -> list[str]:
    """What is said of each pair, without the figures."""
    return [sentence.split(": accuracy")[0] for sentence in text.split("). ")]


@pytest.mark.parametrize(
    ("contenders", "said"),
    [
        (
            (PERFECT, result(60, 60), BAD),
            ["cnn_lstm is better than convlstm", "cnn_lstm is better than cnn3d", "convlstm is better than cnn3d"],
        ),
        (
            (BAD, PERFECT, BAD),
            [
                "convlstm is better than cnn_lstm",
                "convlstm is better than cnn3d",
                "No difference shown between cnn_lstm and cnn3d",
            ],
        ),
        (
            (BAD, PERFECT, GOOD),
            [
                "convlstm is better than cnn_lstm",
                "cnn3d is better than cnn_lstm",
                "No difference shown between convlstm and cnn3d",
            ],
        ),
        (
            (GOOD, PERFECT, GOOD),
            [
                "No difference shown between cnn_lstm and convlstm",
                "No difference shown between cnn_lstm and cnn3d",
                "No difference shown between convlstm and cnn3d",
            ],
        ),
    ],
)
def test_the_verdict_names_every_pair_of_three_contenders(
    contenders: tuple[ModelResult, ...], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, THREE)
    text = verdict(models(*contenders), CLIPS)
    limit = "With 80 clips the test could not have shown a difference below 0.087."
    some_not_shown = "No difference" in text
    assert claims(text.removesuffix(f" {limit}")) == said
    assert text.endswith(limit) == some_not_shown
    assert text.count("Holm-adjusted p = ") == text.count("accuracy ") == 3


def test_the_verdict_names_every_pair_of_five_contenders(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, FIVE)
    correct = dict(zip(FIVE, (80, 79, 60, 59, 30), strict=True))
    said = claims(verdict(models(*(result(number, number) for number in correct.values())), CLIPS))
    alike = [("cnn_lstm", "convlstm"), ("cnn3d", "gru")]
    assert said[:10] == [
        *(
            f"{first} is better than {second}"
            for first, second in combinations(FIVE, 2)
            if (first, second) not in alike
        ),
        *(f"No difference shown between {first} and {second}" for first, second in alike),
    ]
    assert said[10:] == ["With 80 clips the test could not have shown a difference below 0.113."]


def test_three_perfect_contenders_are_all_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, THREE)
    text = verdict(models(PERFECT, PERFECT, PERFECT), CLIPS)
    assert text.startswith("No difference shown: every replicate of all 3 models classifies all 80 test clips right.")
    # Two perfect ones do not make three.
    assert "all 3 models" not in verdict(models(PERFECT, PERFECT, GOOD), CLIPS)


def test_controls_that_do_as_well_take_the_evidence_away() -> None:
    blind = check_controls(models(PERFECT, PERFECT), CLIPS, "synthetic")
    assert "single_frame sees the first frame alone, bag_of_frames sees all frames in no order" in blind
    assert "cnn_lstm is not shown to be better than single_frame and bag_of_frames" in blind
    assert "no accuracy is evidence that a model sees motion" in blind
    one = check_controls(models(PERFECT, PERFECT, controls=(20, 79)), CLIPS, "synthetic")
    assert "cnn_lstm is not shown to be better than bag_of_frames." in one
    assert "no accuracy is evidence that a model sees motion" in one


def test_of_clips_that_are_not_drawn_no_other_variant_is_advised() -> None:
    drawn, filmed = (check_controls(models(PERFECT, PERFECT), CLIPS, each) for each in ("synthetic", "folder"))
    assert drawn.endswith("that a model sees motion; synthetic.variant: motion draws clips that need it.")
    assert filmed.endswith("that a model sees motion.")
    assert drawn.startswith(filmed.removesuffix("."))


def test_what_is_reached_beyond_the_controls_rests_on_motion(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = check_controls(models(PERFECT, result(30, 30), controls=(20, 60)), CLIPS, "synthetic")
    assert "single_frame 0.250, bag_of_frames 0.750: what cnn_lstm reaches beyond that, 1.000, rests on motion" in seen
    register(monkeypatch, THREE)
    third = check_controls(models(BAD, BAD, PERFECT, controls=(20, 60)), CLIPS, "synthetic")
    assert "what cnn3d reaches beyond that, 1.000, rests on motion" in third


GATE = GateParams(minimum_accuracy=0.9, maximum_latency=100.0)
FAST, SLOW = result(80, 80, latency=5.0), result(80, 80, latency=50.0)


def champion(*contenders: ModelResult, **gate: float) -> tuple[str | None, str]:
    return choose_champion(models(*contenders), CLIPS, GATE.model_copy(update=gate))


def test_the_champion_is_the_better_else_the_faster_model() -> None:
    assert champion(SLOW, FAST) == (
        "convlstm",
        "Champion: convlstm, the faster model where no difference is shown; accuracy at least 0.955, latency 5.0 ms.",
    )
    assert champion(SLOW, result(50, 50, latency=5.0)) == (
        "cnn_lstm",
        "Champion: cnn_lstm, the better model; accuracy at least 0.955, latency 50.0 ms.",
    )


def test_no_model_becomes_champion_that_fails_the_gate() -> None:
    assert champion(SLOW, FAST, minimum_accuracy=0.96) == (
        None,
        "No model becomes champion: the accuracy of convlstm, the faster model where no difference is shown, may be as "
        "low as 0.955, below gate.minimum_accuracy: 0.96.",
    )
    assert champion(SLOW, FAST, maximum_latency=4.0) == (
        None,
        "No model becomes champion: the latency of convlstm, the faster model where no difference is shown, is 5.0 ms, "
        "above gate.maximum_latency: 4.",
    )


def test_of_three_the_best_else_the_fastest_unbeaten_is_champion(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, THREE)
    name, why = champion(SLOW, FAST, result(40, 40, latency=1.0))
    assert (name, "the fastest model where no difference is shown" in why) == ("convlstm", True)
    name, why = champion(result(40, 40), result(60, 60, latency=1.0), SLOW)
    assert (name, "cnn3d, the best model;" in why) == ("cnn3d", True)


SEARCH = Search(study="s", trials=40, number=7, validation_loss=0.1, search_loss=0.1, retrained_loss=0.2)
TUNED = ModelResult({**result(80), "search": SEARCH})


def test_the_effort_of_tuning_is_told() -> None:
    assert search_notes(models(PERFECT, PERFECT), 0) == [
        "Both models had the same effort of tuning: the parameters of neither come from a search."
    ]
    assert search_notes(models(TUNED, TUNED), 0)[0].startswith("The models had the same effort of tuning")
    unequal, gap = search_notes(models(TUNED, PERFECT), 0)
    assert unequal == "The models had not the same effort of tuning: cnn_lstm 40 trials and convlstm 0 trials."
    assert gap.startswith("The parameters of cnn_lstm are those of trial 7 of study s, the best of 40, with")
    assert "an optimism gap of +0.1000 nats" in gap


def test_the_effort_of_tuning_of_three_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, THREE)
    [note] = search_notes(models(PERFECT, PERFECT, PERFECT), 0)
    assert note == "All 3 models had the same effort of tuning: the parameters of none come from a search."
    efforts, *gaps = search_notes(models(TUNED, PERFECT, TUNED), 0)
    assert "not the same effort" in efforts
    assert all(each in efforts for each in ("cnn_lstm 40 trials", "convlstm 0 trials", "cnn3d 40 trials"))
    assert [gap.split(" are ")[0] for gap in gaps] == ["The parameters of cnn_lstm", "The parameters of cnn3d"]


def test_a_search_in_folds_has_seen_clips_of_the_others() -> None:
    seen = (
        "A search trains and validates on fold 0 alone. It has not seen the clips on which fold 0 is tested, but those "
        "of the other 4 folds, so that the accuracy over all folds may be too high."
    )
    assert search_notes(models(TUNED, PERFECT), 5) == [*search_notes(models(TUNED, PERFECT), 0), seen]
    assert search_notes(models(PERFECT, PERFECT), 5) == search_notes(models(PERFECT, PERFECT), 0), "no search, no note"


def test_folds_bad_files_and_warnings_are_told() -> None:
    assert clip_notes(SOURCE_RECORD, CLIPS) == []
    warnings = ["a.mp4: one frame only, so that nothing moves", "b.mp4: the frame rate varies"]
    skipped = {"bow/c.mp4": "no such file", "d.mp4": "no label"}
    changes = {"source": "folder", "folds": 5, "warnings": warnings, "skipped": skipped}
    assert clip_notes(SOURCE_RECORD.model_copy(update=changes), CLIPS) == [
        "Cross-validation over 5 folds: each clip is tested once per seed, by a replicate that has seen neither the "
        "clip nor another one of its group.",
        "Left out, since folder.on_bad is skip: bow/c.mp4 (no such file); d.mp4 (no label).",
        "Warning: a.mp4: one frame only, so that nothing moves.",
        "Warning: b.mp4: the frame rate varies.",
    ]


FEW = GROUPED._replace(groups=np.array([f"person {number // 16}" for number in range(80)]))


def test_the_verdict_over_groups_says_so() -> None:
    assert verdict(models(PERFECT, result(70, 70)), GROUPED) == (
        "No difference shown: accuracy cnn_lstm less convlstm +0.125 (95 % interval +0.000 to +0.325, exact paired "
        "test over groups p = 0.5). With 10 groups the test could not have shown a difference below 0.075."
    )
    perfect = models(*[result(80, 80, held_out=GROUPED)] * 2)
    assert verdict(perfect, GROUPED).endswith(
        "With so few groups that is compatible, at 95 % confidence, with a true accuracy as low as 0.692, and the test "
        "could not have shown a difference below 0.075."
    )


def test_with_too_few_groups_the_verdict_says_that_nothing_could_be_shown() -> None:
    assert verdict(models(PERFECT, BAD), FEW).endswith(
        "over groups p = 0.25). With 5 groups no difference could be shown; at least 6 are needed."
    )
    assert verdict(models(PERFECT, PERFECT), FEW).endswith("and no difference could be shown; at least 6 are needed.")
    controls = check_controls(models(PERFECT, BAD, controls=(0, 0)), FEW, "folder")
    assert "cnn_lstm is not shown to be better than single_frame and bag_of_frames" in controls
    assert controls.endswith("With 5 groups no difference could be shown; at least 6 are needed.")


def test_with_more_pairs_more_groups_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, THREE)
    six = GROUPED._replace(groups=np.arange(80) % 6)
    assert verdict(models(PERFECT, BAD, BAD), six).endswith(
        "With 6 groups no difference could be shown; at least 7 are needed."
    )


def test_controls_are_compared_by_groups() -> None:
    compared = models(PERFECT, BAD, controls=(70, 30))
    assert "rests on motion" in check_controls(compared, CLIPS, "folder")
    assert "cnn_lstm is not shown to be better than single_frame." in check_controls(compared, GROUPED, "folder")


def test_the_champion_is_chosen_by_groups() -> None:
    # Over clips the first is better; over groups no difference is shown, and the second is faster.
    compared = models(result(80, 80, latency=2.0), result(70, 70, latency=1.0))
    gate = GateParams(minimum_accuracy=0.0, maximum_latency=100.0)
    assert choose_champion(compared, CLIPS, gate)[0] == "cnn_lstm"
    assert choose_champion(compared, GROUPED, gate)[0] == "convlstm"


def test_it_is_told_how_groups_were_resampled() -> None:
    [note] = clip_notes(SOURCE_RECORD, GROUPED)
    assert note == (
        "The 80 test clips are in 10 groups of 8, and clips of a group are alike: intervals resample whole groups and "
        "replicates, and paired tests swap two models' answers to whole groups. With so few groups these intervals are "
        "too narrow; the tests stay exact."
    )
    many = GROUPED._replace(groups=np.arange(80) % 33)
    [note] = clip_notes(SOURCE_RECORD, many)
    assert note.startswith("The 80 test clips are in 33 groups of 2 to 3, and")
    assert note.endswith("answers to whole groups.")
    [note] = clip_notes(SOURCE_RECORD, GROUPED._replace(groups=np.zeros(80)))
    assert note.startswith("The 80 test clips are in 1 group of 80, and")
    assert "narrow" not in note
