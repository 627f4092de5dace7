"""dvc.yaml against reality: what each stage imports and which parameters it reads."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.conftest import ROOT, edit_params, run

STAGES: dict[str, Any] = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]


def test_the_stages_stand_in_their_order() -> None:
    assert list(STAGES) == ["generate", "train_cnn_lstm", "train_convlstm", "train_controls", "compare"]


def module_file(name: str) -> Path | None:
    base = ROOT / ("src" if name.startswith("motionbench") else "") / name.replace(".", "/")
    candidates = (base.with_suffix(".py"), base / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


def imported_by(path: Path) -> set[str]:
    """Names of modules that a file imports, also inside functions; strings that name a module count too."""
    names: set[str] = set()
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("motionbench."):
            names.add(node.value)
        pending += ast.iter_child_nodes(node)
    return {name for name in names if name.startswith(("motionbench", "pipeline"))}


def import_closure(module: str) -> set[Path]:
    found: set[Path] = set()
    pending = [module]
    while pending:
        name = pending.pop()
        path = module_file(name)
        if path and path not in found:
            found.add(path)
            pending += imported_by(path)
            pending += [".".join(name.split(".")[:depth]) for depth in range(1, name.count(".") + 1)]
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_depends_on_the_code_that_it_imports_and_on_no_other(stage: str) -> None:
    module = STAGES[stage]["cmd"].split()[2]
    imported = {path.relative_to(ROOT).as_posix() for path in import_closure(module)}
    code = [dep for dep in STAGES[stage]["deps"] if dep.startswith(("src", "pipeline"))]
    uncovered = {path for path in imported if not any(path == dep or path.startswith(f"{dep}/") for dep in code)}
    assert uncovered == set()
    idle = {dep for dep in code if not any(path == dep or path.startswith(f"{dep}/") for path in imported)}
    assert idle == set()


# Runs a stage in one process, its tasks one after the other, and prints the leaves of params.yaml that it reads.
RECORDER = """
import importlib, json, sys
import motionbench.parallel
from motionbench.params.schema import Params
from motionbench.core.schema import Section

reads = set()
sections = {}

def recording(self, name, original=Section.__getattribute__):
    if id(self) in sections and name in type(self).model_fields:
        reads.add(f"{sections[id(self)]}.{name}")
    return original(self, name)

def one_by_one(tasks, threads, on_event=lambda event: None):
    return [task(on_event) for task in tasks]

motionbench.parallel.run_side_by_side = one_by_one
stage = importlib.import_module(sys.argv.pop(1))
load = stage.load_params

def load_and_start_recording():
    params = load()
    sections.update({id(getattr(params, name)): name for name in Params.model_fields})
    Section.__getattribute__ = recording
    return params

stage.load_params = load_and_start_recording
stage.main()
print(json.dumps(sorted(reads)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_declares_the_parameters_that_it_reads_and_no_other(stage: str, copy_of_reproduced: Path) -> None:
    arguments = STAGES[stage]["cmd"].split()[2:]
    if stage.startswith("train_"):  # One replicate reads what several do.
        edit_params(copy_of_reproduced / "params.yaml", {"training.seeds": [0]})
    # A program given with -c has no file that DVC's deps would name; pipeline/__init__.py finds the library.
    code = f"import pipeline\n{RECORDER}"
    store = f"sqlite:///{copy_of_reproduced}/recorder.db"
    done = run(copy_of_reproduced, "python", "-c", code, *arguments, MLFLOW_TRACKING_URI=store)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == sorted(STAGES[stage]["params"])
