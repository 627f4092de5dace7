"""From clips to fitted models: replicates, checkpoints, results."""
