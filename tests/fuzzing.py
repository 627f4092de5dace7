"""How many examples fuzz tests try: no fewer than before the tests moved here; the same ones each time."""

from hypothesis import settings

some_examples = settings(max_examples=1000, deadline=None, derandomize=True)
