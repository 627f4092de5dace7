"""Clips of a moving point: trajectories, drawn as frames and written as splits."""
