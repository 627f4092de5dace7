"""dvc.yaml against reality: what each stage imports and which parameters it reads."""

import ast
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from grimp import ImportGraph, build_graph
from ruamel.yaml import YAML

from motionbench.core.dvc_files import read_stages
from motionbench.core.paths import DVC_YAML
from tests.conftest import ROOT, add_backbone, edit_params, run

ALL_STAGES: dict[str, Any] = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
STAGES = {name: stage for name, stage in ALL_STAGES.items() if "outs" in stage}


# A change in these packages must not make a stage stale: MLflow is a view of the stages' files (tracking), a search
# writes params.yaml and nothing else that stages read (tuning), and lineage and verification only read (provenance).
VIEW_ONLY = ("motionbench.tracking", "motionbench.tuning", "motionbench.provenance")


@pytest.fixture(scope="module")
def imports() -> ImportGraph:
    """Which module imports which, also inside functions."""
    graph = build_graph("motionbench", "pipeline", exclude_type_checking_imports=True, cache_dir=None)
    for package in VIEW_ONLY:
        for module in (package, *graph.find_descendants(package)):
            graph.remove_module(module)
    return graph


def files_of(module: str) -> list[Path]:
    """Return a module's file, and those of its packages that hold more than a docstring."""
    base = ROOT / ("src" if module.startswith("motionbench") else "") / module.replace(".", "/")
    packages = [folder / "__init__.py" for folder in (base, *base.parents)]
    coded = [file for file in packages if file.is_file() and len(ast.parse(file.read_text(encoding="utf-8")).body) > 1]
    return [*coded, *(file for file in [base.with_suffix(".py")] if file.is_file())]


@pytest.mark.parametrize("stage", ALL_STAGES)
def test_stage_depends_on_the_code_it_imports_and_no_other(stage: str, imports: ImportGraph) -> None:
    modules = {ALL_STAGES[stage]["cmd"].split()[2]}
    modules = modules.union(*(imports.find_upstream_modules(module) for module in modules))
    imported = {file.relative_to(ROOT).as_posix() for module in modules for file in files_of(module)}
    code = [dep for dep in ALL_STAGES[stage]["deps"] if dep.startswith(("src", "pipeline"))]
    uncovered = {path for path in imported if not any(path == dep or path.startswith(f"{dep}/") for dep in code)}
    assert uncovered == set()
    idle = {dep for dep in code if not any(path == dep or path.startswith(f"{dep}/") for path in imported)}
    assert idle == set()


@pytest.mark.slow
def test_change_of_a_view_leaves_trainings_up_to_date(copy_of_reproduced: Path) -> None:
    trainings = [stage for stage in STAGES if stage.startswith("train_")]
    before = keys_of(copy_of_reproduced, trainings)
    for package in ("tracking", "reporting", "tuning", "provenance"):
        for module in (copy_of_reproduced / "src/motionbench" / package).glob("*.py"):
            with module.open("a", encoding="utf-8") as file:
                file.write("# a comment\n")
    assert json.loads(run(copy_of_reproduced, "dvc", "status", "--json", *trainings).stdout) == {}
    assert keys_of(copy_of_reproduced, trainings) == before
    with (copy_of_reproduced / "src/motionbench/training/loop.py").open("a", encoding="utf-8") as file:
        file.write("# a comment\n")
    assert list(json.loads(run(copy_of_reproduced, "dvc", "status", "--json", *trainings).stdout)) == trainings
    assert not set(keys_of(copy_of_reproduced, trainings)) & set(before)


def keys_of(clone: Path, stages: list[str]) -> list[str]:
    """Return the key of the checkpoints of each stage, which is what a checkpoint must have to be used."""
    program = (
        "import pipeline; from motionbench.core.inputs import read_inputs; "
        f"print(*(read_inputs(stage, {{}}, pipeline.STARTED).digest() for stage in {stages}))"
    )
    done = run(clone, "python", "-c", program)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


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

engine.LocalEngine.prepare = lambda self, imports, workers: None
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
    # One replicate reads what several do; a stage whose model is switched off reads less.
    enabled = {f"{name}.enabled": True for name in ("cnn3d", "pretrained_lstm", "pretrained_linear", "pretrained_bag")}
    edit_params(clone / "params.yaml", {"training.seeds": [0], "backbone.side": 16, **enabled})
    add_backbone(clone)
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
    declared = read_stages(reproduced / DVC_YAML)[stage].params
    assert sections_read[stage] == sorted({key.partition(".")[0] for key in declared})
