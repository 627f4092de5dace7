"""dvc.yaml against reality: what each stage imports and which parameters it reads."""

import ast
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from motionbench.core.dvc_files import read_stages
from motionbench.core.paths import DVC_YAML
from motionbench.data.sources import SOURCES
from tests.conftest import ROOT, edit_params, run

ALL_STAGES: dict[str, Any] = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
STAGES = {name: stage for name, stage in ALL_STAGES.items() if "outs" in stage}


# A change in these packages must not make a stage stale: MLflow is a view of the stages' files (tracking), a search
# writes params.yaml and nothing else that stages read (tuning), and lineage and verification only read (provenance).
VIEW_ONLY = ("motionbench.tracking", "motionbench.tuning", "motionbench.provenance")


def test_stages_are_listed_in_their_order() -> None:
    trainings = ["train_cnn_lstm", "train_convlstm", "train_cnn3d", "train_controls"]
    assert list(STAGES) == ["generate", *trainings, "evaluate", "compare"]
    assert list(ALL_STAGES) == [*STAGES, "keep_runs"]
    assert ALL_STAGES["keep_runs"]["deps"][0] == "metrics/inputs", "so that it runs after all others"


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
        if path and path not in found and not name.startswith(VIEW_ONLY):
            found.add(path)
            pending += imported_by(path)
            pending += [".".join(name.split(".")[:depth]) for depth in range(1, name.count(".") + 1)]
    return {path for path in found if not is_docstring_alone(path)}


def is_docstring_alone(path: Path) -> bool:
    return all(isinstance(node, ast.Expr) for node in ast.parse(path.read_text(encoding="utf-8")).body)


@pytest.mark.parametrize("stage", ALL_STAGES)
def test_stage_depends_on_the_code_it_imports_and_no_other(stage: str) -> None:
    modules = [ALL_STAGES[stage]["cmd"].split()[2]]
    if stage == "generate":  # It imports the sources of clips by the names that their registry has.
        modules += [source.prepare.partition(":")[0] for source in SOURCES.values()]
    imported = {path.relative_to(ROOT).as_posix() for module in modules for path in import_closure(module)}
    code = [dep for dep in ALL_STAGES[stage]["deps"] if dep.startswith(("src", "pipeline"))]
    uncovered = {path for path in imported if not any(path == dep or path.startswith(f"{dep}/") for dep in code)}
    assert uncovered == set()
    idle = {dep for dep in code if not any(path == dep or path.startswith(f"{dep}/") for path in imported)}
    assert idle == set()


@pytest.mark.slow
def test_change_of_a_view_leaves_trainings_up_to_date(copy_of_reproduced: Path) -> None:
    trainings = [stage for stage in STAGES if stage.startswith("train_")]
    before = {stage: key_of(copy_of_reproduced, stage) for stage in trainings}
    for package in ("tracking", "reporting", "tuning", "provenance"):
        for module in (copy_of_reproduced / "src/motionbench" / package).glob("*.py"):
            with module.open("a", encoding="utf-8") as file:
                file.write("# a comment\n")
    assert json.loads(run(copy_of_reproduced, "dvc", "status", "--json", *trainings).stdout) == {}
    assert {stage: key_of(copy_of_reproduced, stage) for stage in trainings} == before
    with (copy_of_reproduced / "src/motionbench/training/loop.py").open("a", encoding="utf-8") as file:
        file.write("# a comment\n")
    assert list(json.loads(run(copy_of_reproduced, "dvc", "status", "--json", *trainings).stdout)) == trainings
    assert all(key_of(copy_of_reproduced, stage) != before[stage] for stage in trainings)


def key_of(clone: Path, stage: str) -> str:
    """Return the key of a stage's checkpoints, which is what a checkpoint must have to be used."""
    program = (
        "import pipeline; from motionbench.core.inputs import read_inputs; "
        f"print(read_inputs({stage!r}, {{}}, pipeline.STARTED).digest())"
    )
    done = run(clone, "python", "-c", program)
    assert done.returncode == 0, done.stderr
    return done.stdout


# Runs stages in one process, their tasks one after the other, and prints for each the sections of params.yaml it reads.
RECORDER = """
import importlib, json, sys
import pipeline
import motionbench.execution.engine as engine
import motionbench.params.loading as loading
from motionbench.core.schema import Section
from motionbench.params.schema import ParamsSchema

reads = set()
sections = {}

def recording(self, name, original=Section.__getattribute__):
    if id(self) in sections and name in {*type(self).model_fields, "model_dump"}:
        reads.add(sections[id(self)])
    return original(self, name)

def load_and_start_recording(load=loading.load_params):
    sections.clear()
    params = load()
    reads.clear()
    sections.update({id(getattr(params, name)): name for name in ParamsSchema.model_fields})
    return params

engine.LocalEngine.prepare = lambda self, module, workers: None
engine.run_tasks = lambda _engine, tasks, threads, on_event=lambda event: None: [task(on_event) for task in tasks]
loading.load_params = load_and_start_recording
Section.__getattribute__ = recording
found = {}
for name, (module, *arguments) in json.loads(sys.argv[1]).items():
    sys.argv[1:] = arguments
    importlib.import_module(module).main()
    found[name] = sorted(reads)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def sections_read(reproduced: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The sections of params.yaml that each stage reads."""
    clone = Path(shutil.copytree(reproduced, tmp_path_factory.mktemp("recorded") / "a copy", symlinks=True))
    edit_params(clone / "params.yaml", {"training.seeds": [0]})  # One replicate reads what several do.
    commands = {name: stage["cmd"].split()[2:] for name, stage in STAGES.items()}
    store = f"sqlite:///{clone}/recorder.db"
    done = run(clone, "python", "-c", RECORDER, json.dumps(commands), MLFLOW_TRACKING_URI=store)
    assert done.returncode == 0, done.stderr
    sections: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return sections


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_stage_declares_the_sections_it_reads_and_no_other(
    stage: str, sections_read: dict[str, list[str]], reproduced: Path
) -> None:
    assert sections_read[stage] == sorted(read_stages(reproduced / DVC_YAML)[stage].params)
