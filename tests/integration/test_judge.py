"""`make judge`: what a change of a parameter does to the results, and the workflow that says so in a pull request."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from motionbench.core.files import read_yaml
from motionbench.core.paths import MODELS
from motionbench.provenance.change import Results, describe_change
from tests.comparison.made_up import Made, compared, models, predictions, result
from tests.conftest import ROOT, edit_params, run


def results(made: dict[str, Made], networks: dict[str, str], clips: str = "as drawn") -> Results:
    """Results of models that were never trained; `networks` has the md5 of each."""
    md5s = {"data/test": clips} | {f"{MODELS / name}/seed-0.keras": md5 for name, md5 in networks.items()}
    found = compared(made)
    summary = {
        name: {"accuracy": each.accuracy, "low": each.interval[0], "high": each.interval[1]}
        for name, each in found.models.items()
    }
    parameters = {name: each.training.parameters for name, each in found.models.items()}
    costs = {name: each.cost for name, each in found.models.items()}
    conclusions = {"control single_frame": "left behind" if np.mean(made["cnn_lstm"].correct) > 70 else "not shown"}
    table = predictions(made)._replace(md5s=md5s)
    return Results(table, parameters, costs, {**summary, "conclusions": conclusions}, ["It is so.", "No champion."])


SAME = {"convlstm": "same", "single_frame": "same", "bag_of_frames": "same"}
BEFORE = results(models(result(80, 79, 80), result(60, 60, 60)), {"cnn_lstm": "old", **SAME})
WORSE = models(result(40, 41, 40), result(60, 60, 60))


def test_only_networks_that_changed_are_compared_with_themselves() -> None:
    page = list(describe_change(BEFORE, results(WORSE, {"cnn_lstm": "new", **SAME}), margin=0.02))
    assert "Networks that changed: cnn_lstm." in page
    [row] = [line for line in page if line.startswith("| cnn_lstm |")]
    assert "| 0.996 (" in row
    assert "| -0.492 (" in row
    assert "): worse | 13,039 |" in row
    assert sum("| the same networks |" in line for line in page) == 3
    sentences = [line for line in page if "less" in line]
    assert len(sentences) == 1
    assert sentences[0].startswith(
        "- cnn_lstm before is better than cnn_lstm: accuracy of cnn_lstm less cnn_lstm before"
    )
    assert "- control single_frame: left behind → not shown" in page
    assert page[-1].endswith("](reports/comparison/perturbations.png)")


def test_nothing_that_changed_is_said_to_be_none() -> None:
    page = list(describe_change(BEFORE, BEFORE, margin=0.02))
    assert "Networks that changed: none." in page
    assert page[page.index("### Conclusions that changed") + 2] == "None."


def test_other_clips_and_models_of_one_side_are_not_compared() -> None:
    three = models(*[result(80, 80, 80)] * 3)
    page = list(describe_change(BEFORE, results(three, {**SAME, "cnn_lstm": "new", "cnn3d": "new"}, "others"), 0.02))
    text = "\n".join(page)
    assert "Networks that changed: cnn_lstm, cnn3d. The test clips are others than before" in text
    assert " less " not in text
    [row] = [line for line in page if line.startswith("| cnn3d |")]
    assert row.startswith("| cnn3d | - | 1.000 (")
    assert "| 13,039 |" in row


def test_a_folder_without_results_is_refused_in_one_line(tmp_path: Path) -> None:
    for name in ("", str(tmp_path)):
        done = run(ROOT, "python", "-m", "pipeline.judge", name)
        assert done.returncode == 2
        assert done.stderr.startswith("error: FOLDER: ")
        assert len(done.stderr.splitlines()) == 1
    (tmp_path / "params.yaml").touch()
    done = run(ROOT, "python", "-m", "pipeline.judge", str(tmp_path))
    missing = f"error: in {tmp_path}: data/predictions.parquet: missing; make it: dvc repro evaluate\n"
    assert (done.returncode, done.stderr) == (2, missing)


def test_the_workflow_stores_the_pictures_and_comments_with_their_addresses(tmp_path: Path) -> None:
    page = "# A verdict\n\n![Cost](reports/comparison/cost.png)\n\n![All](reports/comparison/perturbations.png)\n"
    programs, server = tmp_path / "programs", tmp_path / "server.git"
    programs.mkdir()
    gh = programs / "gh"  # GitHub's own program, which needs GitHub
    gh.write_text('#!/bin/sh\necho "$*" >> ../calls\n', encoding="utf-8")
    gh.chmod(0o755)
    subprocess.run(["git", "init", "--quiet", "--bare", server], check=True)
    job = read_yaml(ROOT / ".github/workflows/verdict.yml")["jobs"]["comment"]
    variables = {"REPOSITORY": str(server), "NUMBER": "7", "GITHUB_STEP_SUMMARY": str(tmp_path / "summary")}
    for attempt in range(2):  # the second after another push to the same pull request
        work = tmp_path / f"work {attempt}"
        work.mkdir()
        (work / "verdict.md").write_text(page, encoding="utf-8")
        for name in ("cost.png", "perturbations.png"):
            (work / name).write_text(f"attempt {attempt}", encoding="utf-8")
        done = run(work, "bash", "-e", "-c", f"PATH='{programs}':$PATH\n{job['steps'][-1]['run']}", **variables)
        assert done.returncode == 0, done.stderr
    commit = run(server, "git", "rev-parse", "refs/verdicts/7").stdout.strip()
    assert run(server, "git", "show", f"{commit}:cost.png").stdout == "attempt 1"
    comment = (work / "verdict.md").read_text(encoding="utf-8")
    assert f"![Cost]({server}/raw/{commit}/cost.png)" in comment
    assert (tmp_path / "summary").read_text(encoding="utf-8").splitlines()[-1] == comment.splitlines()[-1]
    calls = (tmp_path / "calls").read_text(encoding="utf-8").splitlines()
    assert calls[-1] == "pr comment 7 --body-file verdict.md --edit-last --create-if-none"


@pytest.mark.slow
def test_a_change_of_a_parameter_is_judged_after_repro(reproduced: Path, copy_of_reproduced: Path) -> None:
    edit_params(copy_of_reproduced / "params.yaml", {"cnn_lstm.epochs": 1})
    assert run(copy_of_reproduced, "dvc", "repro").returncode == 0
    done = run(copy_of_reproduced, "python", "-m", "pipeline.judge", str(reproduced))
    assert done.returncode == 0, done.stderr
    assert "Networks that changed: cnn_lstm.\n" in done.stdout
    assert "accuracy of cnn_lstm less cnn_lstm before" in done.stdout
    assert "| the same networks |" in done.stdout
    pictures = [line.split("(")[-1].rstrip(")") for line in done.stdout.splitlines() if line.startswith("![")]
    assert len(pictures) == 2
    assert all((copy_of_reproduced / picture).is_file() for picture in pictures)
