"""The stages of dvc.yaml, a module each: python -m pipeline.<module>, from the repository's root."""

import sys
import time
from pathlib import Path

STARTED = time.time()  # before any code of the library is read

# The library of this checkout: DVC runs experiments in copies, which must not import the original's library.
sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
