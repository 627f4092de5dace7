"""What make does in a folder that is not a finished clone. Nothing is installed."""

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, run


def make(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    # As typed in a shell, also where make runs the tests.
    variables = {"MAKEFLAGS": "", "MAKELEVEL": "", "MFLAGS": "", **variables}
    return run(folder, "make", f"PYTHON={sys.executable}", *arguments, **variables)


@pytest.fixture
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A folder with an environment that counts as installed there, and no git repository."""
    place = tmp_path / getattr(request, "param", "")
    place.mkdir(exist_ok=True)
    for name in ("Makefile", "requirements.lock", "requirements-cluster.lock"):
        shutil.copy(ROOT / name, place)
    python = place / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.symlink_to(shutil.which("true") or "")
    (place / ".venv/installed").write_text(f"{place.resolve()}\n", encoding="utf-8")
    return place


def test_an_unpacked_archive_is_told_to_become_a_repository(folder: Path) -> None:
    shutil.rmtree(folder / ".venv")
    done = make(folder, "repro")
    assert done.returncode != 0
    assert "make: DVC needs a git repository; run: git init && git add --all && git commit" in done.stdout
    assert not (folder / ".venv").exists()


def test_an_environment_is_made_anew_only_after_a_move(folder: Path) -> None:
    assert make(folder, "-n", "repro").stdout == "dvc repro\n"
    moved = folder.rename(folder.with_name("moved elsewhere"))
    assert "rm -rf .venv" in make(moved, "-n", "repro").stdout


def test_an_environment_whose_python_was_removed_is_made_anew(folder: Path) -> None:
    (folder / ".venv/bin/python").unlink()
    (folder / ".venv/bin/python").symlink_to(folder / "removed")
    assert "rm -rf .venv" in make(folder, "-n", "repro").stdout


def test_what_a_shell_has_for_other_work_does_not_reach_the_programs(folder: Path) -> None:
    (folder / "show.mk").write_text("show:\n\t@env\n", encoding="utf-8")
    other_work = {
        "PYTHONPATH": "/other", "PYTHONHOME": "/other", "PYTHONSAFEPATH": "1", "PYTHONOPTIMIZE": "2", "PIP_USER": "1",
        "PYTHONUTF8": "0",        "PIP_TARGET": "/other", "SHELL": "/usr/sbin/nologin",
    }  # fmt: skip
    nobody = ["env", *(f"--unset={name}" for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "HOME"))]
    done = run(folder, *nobody, "make", "-f", "Makefile", "-f", "show.mk", "show", **other_work)
    shown = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert {name: shown[name] for name in other_work if name in shown} == {
        "PIP_USER": "0",
        "PYTHONUTF8": "1",
        "SHELL": "/bin/sh",
    }
    assert shown["LOGNAME"] == pwd.getpwuid(os.getuid()).pw_name, "MLflow shows who ran what"
    assert shown["HOME"] == f"{folder}/.venv"


@pytest.mark.parametrize("folder", ['it\'s $x ("a" #1) \u00e4'], indirect=True)
@pytest.mark.parametrize(("target", "key"), [("lineage", "FILE"), ("experiment", "NAME"), ("predict", "CLIP")])
@pytest.mark.parametrize("name", ["it's $HOME $(ls) $$.mp4", '-a "b" `ls` #1 50% \\ & ; \u8df3'])
def test_names_reach_a_command_as_they_are(target: str, key: str, name: str, folder: Path) -> None:
    python = folder / ".venv/bin/python"
    python.unlink()
    python.write_text('#!/bin/sh\nprintf "<%s>" "$3"\n')
    python.chmod(0o755)
    done = make(folder, target, f"{key}={name}")
    assert done.stdout.splitlines()[-1] == f"<{name}>", done.stderr


def test_names_that_a_shell_exports_for_other_work_are_not_for_make(folder: Path) -> None:
    (folder / "show.mk").write_text("show:\n\t@env\n", encoding="utf-8")
    listed = "ADDRESS CLIP EXPLAIN FILE FOLDER FORMAT HOST KILLS LEAK MODEL NAME PORT TRIALS VERSION WORKERS"
    names = listed.split()
    exported = dict.fromkeys(names, "1")
    for target in ("predict", "tune", "example-clips", "ui", "tune-ui", "chaos", "cluster-head", "cluster-join"):
        assert make(folder, "-n", target, **exported).stdout == make(folder, "-n", target).stdout != ""
    shown = make(folder, "-f", "Makefile", "-f", "show.mk", "show", **exported).stdout.splitlines()
    assert {f"{name}=" for name in names} <= set(shown)


def test_a_dashboard_without_a_search_names_the_command(folder: Path) -> None:
    done = make(folder, "tune-ui")
    assert done.returncode != 0
    assert done.stdout == "make: optuna.journal is missing; search first: make tune\n"


def test_options_reach_a_command(folder: Path) -> None:
    assert 'pipeline.predict "$CLIP" \n' in make(folder, "-n", "predict", "CLIP=a.mp4").stdout
    assert 'pipeline.predict "$CLIP" explain\n' in make(folder, "-n", "predict", "CLIP=a.mp4", "EXPLAIN=1").stdout
    assert 'pipeline.predict "$CLIP" \n' in make(folder, "-n", "predict", "CLIP=a.mp4", "EXPLAIN=0").stdout
    refused = make(folder, "export", "FORMAT=tflite")
    assert (refused.returncode, refused.stdout) == (2, "make: FORMAT: tflite: there is onnx alone\n")
    assert make(folder, "export", "FORMAT=onnx").returncode == 0
    assert "requirements-backbone.lock" in make(folder, "-n", "backbone").stderr
    assert make(folder, "-n", "backbone", "NAME=MobileNet").stdout.endswith('pipeline.backbone "$NAME"\n')


@pytest.mark.parametrize(("target", "port"), [("ui", "5000"), ("tune-ui", "8080")])
def test_pages_take_another_port(target: str, port: str, folder: Path) -> None:
    assert f"--port {port}\n" in make(folder, "-n", target).stdout
    assert "--port 7777\n" in make(folder, "-n", target, "PORT=7777").stdout


def test_a_cluster_is_of_this_machine_alone_unless_told_otherwise_and_has_a_token(folder: Path) -> None:
    alone = make(folder, "-n", "cluster-head").stdout
    assert "RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 ray start --head" in alone
    assert "export RAY_ADDRESS=127.0.0.1:6379'" in alone
    told = make(folder, "-n", "cluster-head", "HOST=192.0.2.1").stdout
    assert "--include-dashboard=false" in told
    assert "--node-ip-address=192.0.2.1" in told
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in told
    assert "export RAY_ADDRESS=192.0.2.1:6379'" in told


def test_who_joins_a_cluster_names_its_head(folder: Path) -> None:
    (folder / ".venv/cluster").touch()
    done = make(folder, "cluster-join")
    assert done.returncode != 0
    assert done.stdout == "make: ADDRESS is missing; as in: make cluster-join ADDRESS=192.168.0.10:6379\n"
    assert "--address='192.0.2.1:6379'" in make(folder, "-n", "cluster-join", "ADDRESS=192.0.2.1:6379").stdout
