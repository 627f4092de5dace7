"""Timed comparisons, run by `make bench`. Machines differ and are noisy: compare ratios within one run only."""

import pipeline  # noqa: F401 # puts src/ on the path, as for the stages
