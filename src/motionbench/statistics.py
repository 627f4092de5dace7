"""How sure a measured figure is."""

from scipy.stats import binomtest


def proportion_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the exact 95 % confidence interval of a proportion (Clopper and Pearson, 1934)."""
    interval = binomtest(successes, trials).proportion_ci(confidence_level=0.95, method="exact")
    return float(interval.low), float(interval.high)
