"""The Action in this process, with one server as GitHub and one as a provider."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from aethr.cli import main
from tests.github.github_server import GitHubServer
from tests.github.rig.runner import Runner
from tests.github.support import PullRequest, open_pull_request, outputs, runner_environment, summary
from tests.live import KEY
from tests.model_server import ModelServer


@dataclass(frozen=True)
class Step:
    """How a step ended."""

    code: int
    log: str
    outputs: dict[str, str]
    summary: str


Act = Callable[..., Step]


@pytest.fixture(scope="session")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """A real runner. Each test has run ids of its own, because a run has a machine."""
    return Runner(tmp_path_factory.mktemp("runner"))


@pytest.fixture
def github() -> Iterator[GitHubServer]:
    with GitHubServer() as server:
        yield server


@pytest.fixture
def request_(tmp_path: Path) -> PullRequest:
    return open_pull_request(tmp_path)


@pytest.fixture
def act(github: GitHubServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Act:
    """Run one step: ``act(pull_request, model_server, workspace=…, event=…, part="merge", **variables)``."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)  # as in tests.live

    def run(
        pull_request: PullRequest,
        models: ModelServer | None = None,
        *,
        workspace: Path | None = None,
        key: str = KEY,
        variables: dict[str, str] | None = None,
        part: str | None = None,
        **about: object,
    ) -> Step:
        place = workspace or pull_request.checkout(f"work-{len(list(pull_request.folder.iterdir()))}").root
        environ = runner_environment(pull_request, place, github.url, **about)
        if models is not None:
            environ |= {"OPENAI_BASE_URL": models.base_url, "OPENAI_API_KEY": key}
        environ |= variables or {}
        with monkeypatch.context() as patch:
            for name, value in environ.items():
                patch.setenv(name, value)
            patch.chdir(place)
            code = main(["action", *([part] if part else [])])
        captured = capsys.readouterr()
        return Step(code, captured.out + captured.err, outputs(environ), summary(environ))

    return run
