"""The step in a malformed runner: one clear line, exit 2 or 3, and never a traceback."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.github.github_server import GitHubServer
from tests.github.support import open_pull_request, runner_environment
from tests.live import KEY, PASS
from tests.model_server import ModelServer, text
from tests.support import aethr

pytestmark = pytest.mark.slow

Change = Callable[[dict[str, str], Path], object]


def event(content: bytes) -> Change:
    return lambda environ, _: Path(environ["GITHUB_EVENT_PATH"]).write_bytes(content)


def pipe(environ: dict[str, str], folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    environ["GITHUB_EVENT_PATH"] = str(folder / "pipe")


CASES: list[tuple[str, dict[str, str] | Change, int, str]] = [
    ("a run id that is not a number", {"GITHUB_RUN_ID": "abc"}, 2, "GITHUB_RUN_ID has a form"),
    ("a run in other digits", {"GITHUB_RUN_ID": "\u0665\u0660"}, 2, "GITHUB_RUN_ID has a form"),
    ("a run of 400 digits", {"GITHUB_RUN_ID": "9" * 400}, 2, "GITHUB_RUN_ID has a form"),
    ("an attempt below none", {"GITHUB_RUN_ATTEMPT": "-1"}, 2, "GITHUB_RUN_ATTEMPT has a form"),
    ("no folder for files", {"RUNNER_TEMP": ""}, 2, "RUNNER_TEMP is not set"),
    ("a file as that folder", {"RUNNER_TEMP": "/dev/null"}, 3, "Is RUNNER_TEMP a folder?"),
    ("a line break in it", {"RUNNER_TEMP": "/tmp/a\nb"}, 2, "RUNNER_TEMP has a form"),
    ("no event", {"GITHUB_EVENT_PATH": "/no/such/file"}, 2, "is not an event: No such file"),
    ("a folder as the event", {"GITHUB_EVENT_PATH": "/tmp"}, 2, "is not an event: not a regular file"),
    ("a pipe as the event", pipe, 2, "is not an event: not a regular file"),
    ("a deep event", event(b"[" * 100_000), 2, "is not an event: nested too deeply"),
    ("an event with a long number", event(b'{"n": ' + b"9" * 5000 + b"}"), 2, "a number too long"),
    ("an event that is not UTF-8", event(b'{"a": "\xff"}'), 2, "is not an event: not UTF-8 text"),
    ("an event that is a list", event(b"[]"), 2, "is not an event: not an object"),
    ("an event of another form", event(b'{"pull_request": {"number": true}}'), 2, "the event has no 'base'"),
    (
        "an odd server",
        {"GITHUB_SERVER_URL": "http://[::1"},
        2,
        "GITHUB_SERVER_URL is not an http or https address",
    ),
    (
        "an odd API",
        {"GITHUB_API_URL": "http://host:99999"},
        2,
        "GITHUB_API_URL is not an http or https address",
    ),
    (
        "an API that is a file",
        {"GITHUB_API_URL": "file:///etc"},
        2,
        "GITHUB_API_URL is not an http or https address",
    ),
    (
        "an odd GraphQL",
        {"GITHUB_GRAPHQL_URL": "http://h/\udcff"},
        2,
        "GITHUB_GRAPHQL_URL is not an http or https address",
    ),
    ("outputs that are a folder", {"GITHUB_OUTPUT": "/tmp"}, 3, "/tmp: cannot be written: Is a directory"),
    ("a summary that is a folder", {"GITHUB_STEP_SUMMARY": "/tmp"}, 3, "/tmp: cannot be written: Is a dir"),
    ("a home of nobody", {"AETHR_ACTION_CARRY": "~no-such-user/x"}, 2, "AETHR_ACTION_CARRY: "),
    (
        "certificates that are not there",
        {"SSL_CERT_FILE": "/no/such/file"},
        2,
        "SSL_CERT_FILE cannot be used",
    ),
    ("an odd proxy", {"HTTP_PROXY": "nonsense://x"}, 2, "HTTP_PROXY is not the address"),
]


@pytest.mark.parametrize(
    ("change", "code", "said"), [case[1:] for case in CASES], ids=[each[0] for each in CASES]
)
def test_a_malformed_runner_is_an_error(
    tmp_path: Path, change: dict[str, str] | Change, code: int, said: str
) -> None:
    request = open_pull_request(tmp_path)
    work = request.checkout()
    with GitHubServer() as github, ModelServer([text(PASS)] * 3) as models:
        environ = runner_environment(request, work.root, github.url)
        environ |= {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": models.base_url}
        if isinstance(change, dict):
            environ |= change
        else:
            change(environ, tmp_path)
        done = aethr("action", cwd=work.root, env=environ)
    assert done.returncode == code, done.stdout + done.stderr
    assert said in (done.stdout + done.stderr).replace("%3A", ":")
    assert "Traceback" not in done.stdout + done.stderr
    assert "a bug in Aethr" not in done.stdout + done.stderr
