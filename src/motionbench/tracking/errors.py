"""What the answers of MLflow's store mean: it does not answer, is too old, or refuses."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import mlflow
import sqlalchemy
from mlflow.exceptions import MlflowException, RestException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from motionbench.core.errors import REMEDIES, UserError, one_line
from motionbench.tracking.address import EXPERIMENT, store_name, store_uri

DENIED = ("authentication failed", "Access denied", "pg_hba.conf", "does not exist", "readonly database")
"""What databases say that will not take the same request later either."""


class StoreError(UserError):
    """MLflow's store did not do what it was asked. The message says why, and how to fix it."""


class OutOfReachError(StoreError):
    """The store does not answer, or not now: the same request may succeed later."""


@contextmanager
def store_errors() -> Iterator[None]:
    """Raise what MLflow raises in the block as a `StoreError`. A bug shows its traceback."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        # MLflow wraps whatever is raised while it writes to a database or makes a request.
        inner = error.__cause__ or error.__context__
        if isinstance(error, MlflowException) and isinstance(inner, TypeError | AttributeError | NameError):
            raise
        raise explain(error) from error


def explain(error: Exception) -> StoreError:
    """Return which answer of the store an error of MLflow, SQLAlchemy or the system is."""
    store, status = f"MLflow's store {store_name()}", _http_status(error)
    cause = re.search(r"\(Caused by (.+)\)$", str(error))  # last in a message of urllib3's that is longer than a line
    reason = one_line(cause[1] if cause else str(error).partition("[SQL:")[0])  # SQLAlchemy adds its statement
    another = "set MLFLOW_TRACKING_URI to another"
    if found := re.search(r"database schema \(found version (\S+), but expected (\S+)\)", str(error)):
        return StoreError(
            f"{store} cannot be used: another version of MLflow made it: its tables are of version {found[1]}, "
            f"and MLflow {mlflow.__version__} needs {found[2]}; keep a copy and run: mlflow db upgrade {store_name()}; "
            "if that fails, the other version is newer: move the store away and run: make mlflow-sync"
        )
    if isinstance(error, OSError) and error.filename:  # a full disk, say, or a folder of the server's machine
        remedy = REMEDIES.get(error.errno or 0, "let the server store them: mlflow server --artifacts-destination")
        return StoreError(f"{store}: artifacts cannot be stored ({reason}); {remedy}")
    from_database = isinstance(error, SQLAlchemyError) or isinstance(error.__cause__, SQLAlchemyError)
    if from_database and any(each in str(error) for each in DENIED):
        return StoreError(f"{store} refuses access ({reason}); correct the permissions there, or {another}")
    no_route = getattr(error, "error_code", "") in ("ENDPOINT_NOT_FOUND", "NOT_IMPLEMENTED")
    if no_route:
        with suppress(MlflowException, OSError):
            if version := server_version():
                return too_old(version, f"which lacks what is asked ({reason})")
    if no_route or "not in a valid JSON format" in str(error):
        return StoreError(f"{store} does not answer as a server of MLflow does ({reason}); {another}")
    if status == 401:
        tokens = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        return StoreError(f"{store} refuses access ({reason}); set {tokens}")
    if status == 403:
        return StoreError(f"{store} refuses access ({reason}); ask whoever runs it for the permission")
    if status >= 500 or status in (408, 425, 429, 499):
        remedy = "end the program that locks it" if "locked" in reason else "start it, or read its log"
        remedy = REMEDIES[errno.ENOSPC] if "disk is full" in reason else remedy
        return OutOfReachError(f"{store} does not answer ({reason}); {remedy}")
    return StoreError(f"{store} refuses this ({reason})")


def _http_status(error: Exception) -> int:
    """Return the HTTP status that an error has, or would have if a server had answered so."""
    if isinstance(error, MlflowException):
        if isinstance(error, RestException) and "error_code" not in error.json:
            return _gateway_status()
        # MLflow takes a status that it does not know, such as 413 of a proxy, for 500.
        stated = re.search(r"failed with error code (\d{3}) ", str(error))
        code = stated[1] if stated else error.get_http_status_code()  # type: ignore[no-untyped-call] # mlflow has none
        return int(code)
    if isinstance(error, SQLAlchemyError):
        return 503 if isinstance(error, OperationalError | sqlalchemy.exc.TimeoutError) else 400
    response = getattr(error, "response", None)  # of requests' HTTPError
    return 503 if response is None else int(response.status_code)


def _gateway_status() -> int:
    """Return the status of what answers before a server, whose JSON MLflow takes without its status.

    An answer to what is asked here means that only the request before, for its size or content, was refused.
    """
    with suppress(MlflowException, OSError):
        status, _ = _ask_server(f"/api/2.0/mlflow/experiments/get-by-name?experiment_name={EXPERIMENT}")
        return max(status, 400)
    return 503


def too_old(version: str, reason: str) -> StoreError:
    """Return the error of a server with this version of MLflow."""
    return StoreError(
        f"MLflow's store {store_name()} is too old: its server has MLflow {version}, {reason}; upgrade it to "
        f"{mlflow.__version__}, as here, or set MLFLOW_TRACKING_URI to another"
    )


def server_version() -> str:
    """Return a server's version of MLflow; empty if what answers there is none of MLflow.

    Raises:
        MlflowException, OSError: if it does not answer.
    """
    version = _ask_server("/version")[1].strip()
    return version if re.fullmatch(r"\d+\.\d+[\w.+]{0,30}", version) else ""


def _ask_server(route: str) -> tuple[int, str]:
    """Return the status and text of a server's answer."""
    credentials = get_default_host_creds(store_uri())  # type: ignore[no-untyped-call] # mlflow has none
    answer = http_request(credentials, route, "GET")  # type: ignore[no-untyped-call] # mlflow has none
    return answer.status_code, answer.text
