import platform

from motionbench.core.processes import describe_environment, is_gone, this_process


def test_the_environment_names_what_changes_weights() -> None:
    described = describe_environment()
    assert any(each.startswith("SIMD ") and len(each.split()) > 1 for each in described)
    assert f"Python {platform.python_version()}" in described
    assert {"keras", "numpy", "tensorflow"} <= {each.partition(" ")[0] for each in described}


def test_a_process_is_known_by_more_than_its_number() -> None:
    assert not is_gone(this_process())
    assert is_gone({**this_process(), "started": "1"}), "another with the same number"
    assert not is_gone({**this_process(), "host": "elsewhere", "started": "1"}), "nothing is known of it"
