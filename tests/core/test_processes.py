from motionbench.core.processes import is_gone, this_process


def test_a_process_is_known_by_more_than_its_number() -> None:
    assert not is_gone(this_process())
    assert is_gone({**this_process(), "started": "1"}), "another with the same number"
    assert not is_gone({**this_process(), "host": "elsewhere", "started": "1"}), "nothing is known of it"
