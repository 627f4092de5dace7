"""How tasks run: processes, TensorFlow's settings, progress."""
