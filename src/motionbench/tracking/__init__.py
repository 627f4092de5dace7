"""MLflow's view of files. The only room that imports MLflow."""
