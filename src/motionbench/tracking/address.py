"""Where MLflow's store is: `MLFLOW_TRACKING_URI`, by default sqlite:///mlflow.db at the repository's root.

A plain `mlflow ui` finds it there.
"""

import os
import re
from pathlib import Path

import sqlalchemy

from motionbench.core.paths import MLFLOW_ARTIFACTS, MLFLOW_DATABASE, repository_root
from motionbench.core.redaction import without_secrets

EXPERIMENT = "motionbench"


def store_name() -> str:
    """Return the store's address without secrets."""
    return without_secrets(re.sub(r"^(https?://).*@", r"\1", store_uri()))


def pages_url(port: str = "5000") -> str:
    """Return the URL of MLflow's pages, a server's or that of `make ui`, without credentials: browsers ask for them."""
    name = store_name()
    return name.partition("?")[0].rstrip("/") if name.startswith("http") else f"http://127.0.0.1:{port}"


def store_uri() -> str:
    """Return the store's address. A relative file is one in the repository's root, not in a temporary copy of DVC's."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{MLFLOW_DATABASE}"
    file = sqlite_file(uri)
    if file is None:
        return uri
    return sqlalchemy.make_url(uri).set(database=str(repository_root() / file)).render_as_string(hide_password=False)


def artifacts_folder() -> Path:
    """Return the folder of artifacts and locks: beside a database file, which several checkouts may share."""
    file = sqlite_file(store_uri())
    return (file.resolve().parent if file else repository_root()) / MLFLOW_ARTIFACTS


def sqlite_file(uri: str) -> Path | None:
    """Return the file of a store in SQLite."""
    name = sqlalchemy.make_url(uri).database if uri.startswith("sqlite:") else None
    return Path(name) if name else None
