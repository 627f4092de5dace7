"""The stages of dvc.yaml, a module each: python -m pipeline.<module>, from the repository's root."""

import signal
import sys
import time
from pathlib import Path

if sys.argv[0] == "-m" and signal.getsignal(signal.SIGINT) == signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until a command runs, which cleans up: no traceback of an import

STARTED = time.time()  # before any code of the library is read

# The library of this checkout: DVC runs experiments in copies, which must not import the original's library.
sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
