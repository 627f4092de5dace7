import os
import re
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from motionbench.core.errors import UserError, one_line
from motionbench.core.redaction import NO_SECRETS, SHORTEST, without_secrets
from tests.conftest import ROOT, run
from tests.fuzzing import some_examples


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:secret@host/db", "postgresql://me@host/db"),
        ("postgresql://me:a@b@host/db", "postgresql://me@host/db"),
        ("postgresql://me@server:a:b/c?d#e@host:5432/db", "postgresql://me@server@host:5432/db"),
        ("redis://:secret@host", "redis://@host"),
        ("http://me:secret@host:5000/path", "http://host:5000/path"),
        ("https://a-token@host/path", "https://host/path"),
        ("https://a-token:x-oauth-basic@host", "https://host"),
        ("git+https://a-token@host/path", "git+https://host/path"),
        ("http://me:a/b@host", "http://host"),
        ("HTTP://me:secret@[::1]:5000", "HTTP://[::1]:5000"),
        ("no answer from 'http://me:secret@host' (http://other@host)", "no answer from 'http://host' (http://host)"),
        ("http://host/?token=secret&a=b", "http://host/?token=***&a=b"),
        ("url: /?a=b&ACCESS_TOKEN=secret/api", "url: /?a=b&ACCESS_TOKEN=***"),
        ("https://account.host/container?sv=1&sig=a%2Bb%3D", "https://account.host/container?sv=1&sig=***"),
        (
            "postgresql://host/db?user=me&password=a&sslpassword=b",
            "postgresql://host/db?user=me&password=***&sslpassword=***",
        ),
        ("mssql+pyodbc:///?odbc_connect=UID%3Dme%3BPWD%3Dsecret", "mssql+pyodbc:///?odbc_connect=UID%3Dme%3BPWD%3D***"),
        ("host=db user=me password=hunter2abc failed", "host=db user=me password=*** failed"),
        ("Authorization: Bearer abcdefgh123", "Authorization: Bearer ***"),
        (
            "https://bucket.host/x?X-Amz-Signature=secret&X-Amz-Expires=1",
            "https://bucket.host/x?X-Amz-Signature=***&X-Amz-Expires=1",
        ),
    ],
)
def test_addresses_are_shown_without_secrets(text: str, shown: str) -> None:
    assert without_secrets(text) == shown
    assert str(UserError(text)) == shown
    assert one_line(text) == shown
    assert without_secrets(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:///mlflow.db",
        "sqlite:////home/me@work/a:b/mlflow.db",
        "/a/path",
        "models:/motionbench@champion",
        "postgresql://me@host:5432/db?sslmode=require",
        "git@github.com:owner/repository.git",
        "ssh://git@host:22/path",
        "http://127.0.0.1:5000/#/runs/1",
        "http://[::1]:5000/a@b",
        "http://host:5000/a@b",
        "http://host/@scope:1/a",
        "params.yaml: tokens=3, key=value",
        "make tune TRIALS=2",
        "12:30@noon",
        "https://host/?page_token_count=1&keys=2",
    ],
)
def test_text_without_secrets_is_unchanged(text: str) -> None:
    assert without_secrets(text) == text
    assert str(UserError(text)) == text


@given(st.text().filter(lambda text: "://" not in text and "=" not in text and "%3" not in text))
@some_examples
def test_any_text_without_an_address_is_unchanged(text: str) -> None:
    assert without_secrets(text) == text


anything = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
hostile = st.text("@:/?#&=%[]'\"\\ ;+.ab1\n", min_size=1)


def is_like_a_port(secret: str) -> bool:
    return bool(re.match(r"\d{1,5}[/?#]", secret))


@given(anything | hostile)
@some_examples
def test_no_character_of_a_password_keeps_it_in_a_message(secret: str) -> None:
    assume(not re.search(r"\s", secret) and not is_like_a_port(secret))
    for scheme, user in (("postgresql", "me@"), ("http", "")):
        text = "cannot open {}host/db (Background on this error at: https://sqlalche.me)"
        shown = text.format(f"{scheme}://{user}")
        assert without_secrets(text.format(f"{scheme}://me:{secret}@")) == shown


@given(anything | hostile)
@some_examples
def test_no_character_of_a_field_keeps_it_in_a_message(secret: str) -> None:
    assume(not re.search(r"[\s&]", secret))
    assert without_secrets(f"url: /a?b=c&token={secret}&d=e (no answer)") == "url: /a?b=c&token=***&d=e (no answer)"


@given(anything | hostile)
@some_examples
def test_no_character_of_a_password_in_the_environment_keeps_it_in_a_message(secret: str) -> None:
    assume(not is_like_a_port(secret))
    with pytest.MonkeyPatch.context() as patch:
        for scheme, user in (("postgresql", "me@"), ("http", "")):
            address = f"{scheme}://me:{secret}@host.example/db"
            patch.setattr(os, "environ", {"MLFLOW_TRACKING_URI": address})
            message = "cannot open {}host.example/db/api"
            shown = without_secrets(message.format(f"{scheme}://me:{secret}@"))
            assert shown == message.format(f"{scheme}://{user}")


@given(anything | hostile)
@some_examples
def test_a_secret_of_the_environment_is_found_without_its_address(secret: str) -> None:
    assume(len(secret.strip()) >= SHORTEST and secret.strip() not in "header value: '' (no answer)")
    assume(secret.strip().lower() not in NO_SECRETS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", {"MLFLOW_TRACKING_TOKEN": secret})
        for form in (secret.strip(), quote(secret.strip(), safe=""), repr(secret.strip())[1:-1]):
            assert form not in without_secrets(f"header value: '{form}' (no answer)")


@pytest.mark.parametrize(
    ("name", "value", "message", "shown"),
    [
        (
            "OPTUNA_STORAGE",
            "postgresql://me:a1b2@c3d4e5@host/db",
            "failed to resolve host 'c3d4e5@host'",
            "failed to resolve host '***@host'",
        ),
        (
            "OPTUNA_STORAGE",
            "postgresql://me:a b@host/db",
            "postgresql://me:a b@host/other",
            "postgresql://me@host/other",
        ),
        ("OPTUNA_STORAGE", "postgresql://me:a%40bcdef@host/db", "password a@bcdef is wrong", "password *** is wrong"),
        ("https_proxy", "me:a-password@host:3128", "me:a-password@host:3128: no scheme", "host:3128: no scheme"),
        ("RAY_ADDRESS", "a-token@host:6379", "RAY_ADDRESS: a-token@host:6379", "RAY_ADDRESS: host:6379"),
        ("MLFLOW_TRACKING_URI", "https://a-token@host", "a-token has expired", "*** has expired"),
        ("MLFLOW_TRACKING_URI", "https://host?token=a%20token", "a token has expired", "*** has expired"),
        ("RAY_AUTH_TOKEN", "a-token", "next=http%3A%2F%2Fa-token%40host", "next=http%3A%2F%2F***%40host"),
        (
            "MLFLOW_TRACKING_URI",
            "postgresql://mlflow:mlflow@host/mlflow",
            "mlflow db upgrade postgresql://mlflow:mlflow@host",
            "mlflow db upgrade postgresql://mlflow@host",
        ),
        ("POSTGRES_PASSWORD", "postgres", "postgresql://postgres@host", "postgresql://***@host"),
        ("AZURE_STORAGE_CONNECTION_STRING", "AccountName=me;AccountKey=abcd1234==", "bad: abcd1234==", "bad: ***=="),
        ("DB_PASS", "hunter2abc", "login with hunter2abc failed", "login with *** failed"),
        ("GITHUB_PAT", "ghp_abcdef", "ghp_abcdef has expired", "*** has expired"),
        ("PGPASSWORD", "short", "a short message", "a short message"),
        ("NO_PROXY", "127.0.0.1,localhost", "127.0.0.1,localhost", "127.0.0.1,localhost"),
        ("EMAIL", "someone@example.org", "someone@example.org", "someone@example.org"),
    ],
)
def test_secrets_of_the_environment_are_found_in_other_forms(
    name: str, value: str, message: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert without_secrets(message) == shown


def test_a_secret_is_gone_before_a_message_is_cut_off() -> None:
    assert one_line(f"{190 * 'a'} http://me:secret@host") == f"{190 * 'a'} http://h…"


CRASH = """
from motionbench.core.commands import run_command

def main():
    raise ValueError("invalid port of http://me:secret@host:port")

run_command(main)
"""


def test_tracebacks_have_no_secrets() -> None:
    done = run(ROOT, "python", "-c", CRASH, PYTHONPATH="src")
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback (most recent call last):\n")
    assert done.stderr.endswith("ValueError: invalid port of http://host:port\n")
