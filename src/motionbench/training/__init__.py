"""From clips to fitted models: the loop, one replicate, checkpoints, results."""
