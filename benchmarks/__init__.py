"""Timed comparisons, run by `make bench`. Machines differ and are noisy: what counts are ratios within one run."""
