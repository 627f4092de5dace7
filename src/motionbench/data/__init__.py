"""Clips: their sources, the splits on disk, and perturbations. No TensorFlow."""
