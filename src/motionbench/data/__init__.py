"""Clips: their sources, the splits on disk, and perturbations. NumPy only."""
