"""docs/chapter.ipynb: made from its source, without outputs, and it runs."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, clone_with, run

pytestmark = pytest.mark.skipif(find_spec("jupytext") is None, reason="Jupyter is not installed: make .venv/notebook")

# Networks of their real size, which the page is about, on few and short clips.
SHORT = {
    "data.frames": 6,
    "synthetic.clips_per_class": 2,
    **{f"{name}.epochs": 1 for name in ("cnn_lstm", "convlstm", "single_frame", "bag_of_frames")},
}


def cells_of(notebook: str) -> list[dict[str, Any]]:
    return [dict(cell, source="".join(cell["source"])) for cell in json.loads(notebook)["cells"]]


def test_the_notebook_is_made_from_its_source_and_has_no_outputs(tmp_path: Path) -> None:
    shutil.copy(ROOT / "docs/chapter.py", tmp_path)
    assert run(tmp_path, "jupytext", "--quiet", "--to", "ipynb", "chapter.py").returncode == 0
    made, written = (
        cells_of((folder / "chapter.ipynb").read_text(encoding="utf-8")) for folder in (tmp_path, ROOT / "docs")
    )
    for cell in (*made, *written):
        del cell["id"]  # drawn at random
    assert written == made, "make it again: make docs"


@pytest.mark.slow
def test_the_notebook_runs_and_shows_both_tables(tmp_path: Path) -> None:
    clone = clone_with(SHORT, tmp_path)
    done = run(
        clone, "jupyter", "nbconvert", "--to", "notebook", "--execute", "--output-dir", "..", "docs/chapter.ipynb"
    )
    assert done.returncode == 0, done.stderr
    executed = cells_of((tmp_path / "chapter.ipynb").read_text(encoding="utf-8"))
    outputs = [output for cell in executed for output in cell.get("outputs", [])]
    printed = [line for each in outputs if each.get("name") == "stdout" for line in "".join(each["text"]).splitlines()]
    tables = [line for line in printed if line.endswith(" parameters")]
    assert tables == ["13,039 parameters", "13,039 parameters", "29,504 parameters"]
    assert [each for each in outputs if each.get("name") == "stderr"] == []
    shown = [kind for each in outputs for kind in each.get("data", {})]
    assert shown.count("image/png") == 3
    assert sum("image/gif" in "".join(each.get("data", {}).get("text/html", "")) for each in outputs) == 2
    assert run(clone, "git", "status", "--porcelain").stdout == "", "it writes nothing"
