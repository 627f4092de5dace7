"""Clips of a moving point: trajectories (patterns) -> frames -> splits on disk. NumPy only."""
