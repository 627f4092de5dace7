"""What fitted models are worth: scores, statistics, comparison, verdict."""
