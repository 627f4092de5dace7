"""The stages of dvc.yaml, a module each: python -m pipeline.<module>, from the repository's root."""

import sys
from pathlib import Path

# The library of this checkout: DVC runs experiments in copies, which must not import the original's library.
sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
