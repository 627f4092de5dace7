"""The search for better parameters. The only package that imports Optuna."""
