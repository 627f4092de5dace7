"""What the benchmarks share: paths, parameters, the machine, temporary clones, processes, timing and Markdown."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from motionbench.core.paths import PARAMS
from motionbench.core.processes import describe_environment, git
from motionbench.data.synthetic.params import Drawing, SyntheticParams
from motionbench.execution.engine import EventCallback, Task, local_engine, run_tasks
from motionbench.params.loading import load_params
from motionbench.params.schema import Params

HERE = Path(__file__).parent
ROOT = HERE.parent
DOCS = ROOT / "docs/results"
Result = TypeVar("Result")


def default_params() -> Params:
    """Return the parameters of the repository's params.yaml, from any working directory."""
    return load_params(ROOT / PARAMS)


def default_drawing() -> Drawing:
    """Return what is drawn with these parameters."""
    params = default_params()
    section = params.dataset()
    assert isinstance(section, SyntheticParams)
    return section.drawing(params.data)


def processor() -> str:
    """Return the processor and its newest vector instructions, as in "AMD EPYC, AVX512_ICL"."""
    name, instructions, *_ = describe_environment()
    return f"{name}, {instructions.split()[-1]}"


def machine() -> str:
    """Return cores and processor, as in "2 cores (AMD EPYC, AVX512_ICL)"."""
    return f"{describe_environment()[2]} ({processor()})"


def slug(name: str) -> str:
    """Return a name as part of a file's name, as in "intel-xeon-processor-avx512-spr"."""
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((R|TM)\)", "", name).lower())


@contextmanager
def temporary_clone() -> Iterator[Path]:
    """Yield a clone of the repository's last commit; remove it afterwards."""
    with TemporaryDirectory() as folder:
        clone = Path(folder, "clone")
        git("clone", "--quiet", str(ROOT), str(clone))
        yield clone


def reproduce(clone: Path) -> float:
    """Run `dvc repro` in a clone and return how many seconds it took."""
    return seconds_of(lambda: subprocess.run([sys.executable, "-m", "dvc", "repro"], cwd=clone, check=True))


def seconds_of(call: Callable[[], Any]) -> float:
    """Return how many seconds a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def as_task(function: Callable[..., Result], *arguments: Any) -> Task[Result]:
    """Return a call as a task for `run_tasks`, one that reports no events."""
    return partial(_call, function, arguments)


def _call(function: Callable[..., Result], arguments: Sequence[Any], _on_event: EventCallback) -> Result:
    return function(*arguments)


def run_in_new_process(function: Callable[..., Result], *arguments: Any) -> Result:
    """Return what `function` returns in a new process, whose memory and imports are its own."""
    with local_engine() as engine:
        [result] = run_tasks(engine, [as_task(function, *arguments)], threads=1)
    return result


def markdown_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Return rows as a Markdown table; the columns are the keys, and a missing cell is empty."""
    import pandas as pd  # late: pandas would add to the memory that the benchmarks measure

    return pd.DataFrame(rows).fillna("").to_markdown(index=False, disable_numparse=True)


def write_page(path: Path, paragraphs: Sequence[str]) -> None:
    """Write a Markdown page; headings, tables and paragraphs are separated by blank lines."""
    path.write_text("\n\n".join(paragraphs) + "\n", encoding="utf-8")
