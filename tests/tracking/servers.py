"""Servers for tests: of MLflow, and what answers in its place."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from tests.conftest import clean_environment, free_port, wait_for_answer


class Server:
    """A server of the `mlflow` command, with its log in a folder, to be stopped and started."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        port = free_port()
        self.uri, self.log = f"http://127.0.0.1:{port}", folder / "server.log"
        self.command = [sys.executable, "-m", "mlflow", *arguments, "--port", str(port)]
        self.environment = clean_environment() | environment

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        try:
            wait_for_answer(f"{self.uri}/health", self.log)
        except AssertionError:
            self.stop()
            raise

    def hang(self) -> None:
        os.killpg(self.process.pid, signal.SIGSTOP)

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def mlflow_server(folder: Path, database: str = "") -> Server:
    """Return a server with its files in a folder, which stores artifacts too."""
    folder.mkdir()
    store = database or f"sqlite:///{folder}/mlflow.db"
    places = ["--backend-store-uri", store, "--artifacts-destination", str(folder / "artifacts")]
    return Server(folder, "server", "--workers", "1", *places)


@contextmanager
def answering(status: int, body: str = "", version: str = "") -> Iterator[str]:
    """Yield the address of a server that gives one answer to all requests, and its version where it has one."""

    class Answers(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            found = (200, version) if self.path == "/version" and version else (status, body)
            self.send_response(found[0])
            self.end_headers()
            self.wfile.write(found[1].encode())

        do_GET = do_POST = do_PUT = answer  # noqa: N815 # the names that http.server calls

        def log_message(self, *_: object) -> None:
            """Write nothing to the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as listening:
        thread = Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}"
        finally:
            listening.shutdown()
            thread.join()
