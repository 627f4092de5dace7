"""How many examples fuzz tests try: few, or as many as FUZZ_EXAMPLES says; the same ones each time."""

import os

from hypothesis import settings

some_examples = settings(max_examples=int(os.environ.get("FUZZ_EXAMPLES", "200")), deadline=None, derandomize=True)
