"""docs/adding-a-model.md, step by step, in a temporary clone: the new contender is trained, compared and tuned."""

import re
from pathlib import Path

import pytest

from motionbench.core.files import read_json
from tests.conftest import ROOT, TINY, clone_with, edit_params, run

pytestmark = pytest.mark.slow  # they train for real

PAGE = ROOT / "docs/adding-a-model.md"
STEP = re.compile(r"<!-- step: (\S+) (?:\"([^\n]*)\" in )?(\S+) -->\n+```\w*\n(.*?)```", re.DOTALL)
PLACES = {"dvc.yaml", "params.yaml", "src/motionbench/models/networks.py", "src/motionbench/models/registry.py"}


def follow_steps(clone: Path) -> None:
    for verb, line, path, text in STEP.findall(PAGE.read_text(encoding="utf-8")):
        file = clone / path
        if verb == "append":
            file.write_text(file.read_text(encoding="utf-8") + text, encoding="utf-8")
        else:
            assert verb == "append-after"
            lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
            [number] = [number for number, each in enumerate(lines) if each.startswith(line.replace('\\"', '"'))]
            file.write_text("".join([*lines[: number + 1], text, *lines[number + 1 :]]), encoding="utf-8")


def test_a_new_contender_needs_only_the_four_places(tmp_path: Path) -> None:
    # One of the other contenders is enough to compare with.
    changes = {**TINY, "training.seeds": [0], "tuning.default.epochs": 2, "convlstm.enabled": False}
    clone = clone_with(changes, tmp_path)
    follow_steps(clone)
    changed = run(clone, "git", "status", "--porcelain", "--untracked-files=all").stdout
    assert {line[3:] for line in changed.splitlines()} == PLACES
    tiny = {"temporal_cnn.filters": [2, 2], "temporal_cnn.kernel_sizes": [3, 3], "temporal_cnn.epochs": 2}
    edit_params(clone / "params.yaml", tiny)

    done = run(clone, "dvc", "repro")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Running stage 'train_temporal_cnn'" in done.stdout
    summary = read_json(clone / "metrics/comparison/summary.json")
    baseline = {f"{name}_vs_frame_differences" for name in ("cnn_lstm", "temporal_cnn")}
    assert set(summary["difference"]) == {"cnn_lstm_vs_temporal_cnn"} | baseline
    report = (clone / "reports/comparison/report.md").read_text(encoding="utf-8")
    assert report.startswith("# cnn_lstm or temporal_cnn?")
    assert "cnn_lstm less temporal_cnn" in report

    done = run(clone, "python", "-m", "pipeline.tune", "--model", "temporal_cnn", "--trials", "1", "--workers", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert run(clone, "python", "-m", "pipeline.tune_apply", "temporal_cnn").returncode == 0
    assert "made by" in run(clone, "python", "-m", "pipeline.lineage", "models/temporal_cnn/seed-0.keras").stdout
    assert "temporal_cnn.accuracy" in run(clone, "dvc", "exp", "show", "--csv").stdout
