"""MLflow's view of files. The only package that imports MLflow."""
