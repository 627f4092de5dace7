"""The search for better parameters: a study that any number of processes share, and its trials. Only here is Optuna."""
