import doctest
from types import ModuleType

import pytest

from motionbench.comparison import intervals, pairs, probabilities


@pytest.mark.parametrize("module", [intervals, pairs, probabilities])
def test_the_examples_in_the_documentation_are_right(module: ModuleType) -> None:
    failed, tried = doctest.testmod(module)
    assert (failed, tried > 0) == (0, True)
