import numpy as np
from numpy.typing import NDArray

from motionbench.comparison.pairs import Comparison, compare_pairs
from motionbench.comparison.sentences import (
    compare_with_controls,
    describe_controls,
    describe_pair,
    format_p,
)


def wrong(*numbers: int, clips: int = 80) -> NDArray[np.bool_]:
    return np.arange(clips) >= np.array(numbers)[:, np.newaxis]


def pair(ours: NDArray[np.bool_], theirs: NDArray[np.bool_], groups: int | None = None) -> Comparison:
    names = None if groups is None else np.arange(ours.shape[1]) % groups
    return compare_pairs({"cnn_lstm": ours, "convlstm": theirs}, names, 0.02)[0]


def test_better_is_said_with_both_questions() -> None:
    sentence = describe_pair(pair(wrong(0, 0, 0), wrong(40, 41, 42)))
    assert sentence.startswith("cnn_lstm is better than convlstm: accuracy of cnn_lstm less convlstm +0.512; ")
    assert "these networks: exact p = " in sentence
    assert "adjusted" not in sentence
    assert "trained again: 95 % interval +0." in sentence
    assert "more than 99% likely that the first is better" in sentence
    assert describe_pair(pair(wrong(40, 41, 42), wrong(0, 0, 0))).startswith("convlstm is better than cnn_lstm: ")


def test_not_shown_and_equal_are_two_verdicts() -> None:
    not_shown = describe_pair(pair(wrong(0, 0, 0), wrong(0, 0, 0)))
    assert not_shown.startswith("Between cnn_lstm and convlstm no difference is shown, nor that they are equal: ")
    assert (
        "A true difference of 0.104 would be shown of models that are trained again in about 80 of 100 repetitions, if"
        in not_shown
    )
    assert "50% likely that the first is better" in not_shown
    equal = describe_pair(pair(wrong(0, 0, 0, clips=1000), wrong(1, 0, 0, clips=1000)))
    assert equal.startswith("cnn_lstm and convlstm are practically equal: ")
    small = describe_pair(pair(wrong(0, 0, 0, clips=5000), wrong(50, 50, 50, clips=5000)))
    assert small.startswith("cnn_lstm is better than convlstm, by less than 0.02, so that they are practically equal: ")


def test_tiny_p_values_are_bounds() -> None:
    sentence = describe_pair(pair(wrong(0, 0, 0, clips=3000), wrong(2900, 2901, 2900, clips=3000)))
    assert "exact p < 1e-15; " in sentence
    assert format_p(0.0123) == "p = 0.012"


def test_one_seed_says_what_it_cannot_tell() -> None:
    sentence = describe_pair(pair(wrong(0), wrong(40)))
    assert sentence.startswith("The trained networks of cnn_lstm are better than those of convlstm, but whether the ")
    assert "if both were trained again one seed cannot tell" in sentence
    assert "these networks: approximate 95 % interval +0." in sentence
    assert sentence.endswith("trained again: not known from one seed.")


def test_networks_that_differ_are_not_called_recipes_that_do() -> None:
    sentence = describe_pair(pair(wrong(0, 0, 0), wrong(0, 0, 60)))
    assert sentence.startswith("The trained networks of cnn_lstm are better than those of convlstm, but whether the ")
    assert "if both were trained again is not shown" in sentence


def test_where_no_test_can_show_anything_no_p_value_of_it_is_given() -> None:
    sentence = describe_pair(pair(wrong(0, 0), wrong(80, 80), groups=5))
    assert " p = " not in sentence
    assert "likely" not in sentence
    assert sentence.endswith(
        " With 5 clips or groups no difference can be shown, whatever the intervals are: 6 are needed."
    )
    one = describe_pair(pair(wrong(0, 0), wrong(80, 80), groups=1))
    assert " p = " not in one
    assert "likely" not in one


def test_where_seeds_differ_too_much_hardly_anything_can_be_shown() -> None:
    sentence = describe_pair(pair(wrong(0, 40), wrong(0, 0)))
    assert sentence.endswith("With these clips and seeds hardly any difference can be shown.")


def test_p_values_of_several_pairs_are_said_to_be_adjusted() -> None:
    right = {name: wrong(number, number) for name, number in (("a", 0), ("b", 9), ("c", 20))}
    sentences = [describe_pair(each) for each in compare_pairs(right, None, 0.02)]
    assert all("likely that the first is better (p-values adjusted for 3 pairs)" in each for each in sentences)


def right_of(control: NDArray[np.bool_], best: NDArray[np.bool_]) -> dict[str, NDArray[np.bool_]]:
    return {
        "cnn_lstm": best,
        "convlstm": wrong(20, 20, 20),
        "single_frame": control,
        "bag_of_frames": wrong(60, 60, 60),
    }


def test_the_best_contender_is_compared_with_each_control() -> None:
    pairs = compare_with_controls(right_of(wrong(40, 40, 40), wrong(0, 0, 0)), None, 0.02)
    assert [(each.first, each.second) for each in pairs] == [
        ("cnn_lstm", "single_frame"),
        ("cnn_lstm", "bag_of_frames"),
    ]
    assert all(each.first_leads for each in pairs)
    sentence = describe_controls(pairs)
    assert sentence == (
        "cnn_lstm is better than the controls, which cannot see motion: single_frame by +0.500 and bag_of_frames by "
        "+0.750."
    )
    # Seen: "not explained by what they learn" of a difference that is practically none.
    right = {name: wrong(*[number] * 3, clips=5000) for name, number in
             (("cnn_lstm", 0), ("single_frame", 50), ("bag_of_frames", 2500))}  # fmt: skip # in two lines
    assert describe_controls(compare_with_controls(right, None, 0.02)).endswith(
        ": single_frame by +0.010 (practically equal) and bag_of_frames by +0.500."
    )


def test_the_choice_of_the_best_contender_counts() -> None:
    # Alone 6 clips are enough. They are not if the other contender is compared too and not shown to be better.
    right = right_of(wrong(6, 6, 6), wrong(0, 0, 0)) | {"convlstm": wrong(5, 5, 5)}
    assert compare_pairs(right, None, 0.02, [("cnn_lstm", "single_frame")])[0].better == "cnn_lstm"
    pairs = compare_with_controls(right, None, 0.02)
    assert [each.first_leads for each in pairs] == [False, True]
    assert describe_controls(pairs).startswith("cnn_lstm is not shown to be better than single_frame, which cannot ")


def test_below_six_groups_nothing_is_shown_of_controls() -> None:
    # Seen: in one report "not shown to be better than the control", by groups, and "is better", by clips.
    groups = np.arange(80) % 5
    pairs = compare_with_controls(right_of(wrong(80, 80, 80), wrong(0, 0, 0)), groups, 0.02)
    assert not any(each.first_leads for each in pairs)
    sentence = describe_controls(pairs)
    assert "is no evidence that it sees motion. With 5 clips or groups no difference can be shown" in sentence
    assert "whatever the intervals are: 8 are needed for 4 comparisons." in sentence


def test_a_control_can_be_left_behind_by_trained_networks_of_one_seed() -> None:
    right = {name: each[:1] for name, each in right_of(wrong(40, 40, 40), wrong(0, 0, 0)).items()}
    pairs = compare_with_controls(right, None, 0.02)
    assert all(each.first_leads for each in pairs)
    assert describe_controls(pairs).endswith("These are the trained networks: one seed says nothing of others.")


def test_a_control_is_not_left_behind_by_networks_of_several_seeds_alone() -> None:
    pairs = compare_with_controls(right_of(wrong(0, 0, 60), wrong(0, 0, 0)), None, 0.02)
    assert (pairs[0].better_network, pairs[0].first_leads) == ("cnn_lstm", False)
