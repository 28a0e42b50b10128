"""The answers that a hook keeps in the folder of ``--checkpoint-dir``, and nowhere else."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import KEY, PASS, REVISE, Aethr, aethr, project, temp
from tests.model_server import ModelServer
from tests.review.test_verify import MEDIUM, PROOF, drop
from tests.run.test_verify import checked
from tests.support import Repo

__all__ = ["aethr", "checked", "project", "temp"]  # fixtures

WORKFLOW = """\
workflow: ours
roles: {reviewer: "Review."}
models: {reviewer: "openai:gpt-4o-mini"}
steps:
  - {id: review, role: reviewer, context: [git_diff]}
"""
SAME = "not asked again: the answer to the same prompt"


@pytest.fixture
def replies() -> list[str]:
    return [REVISE, PASS, PASS, PASS]


@pytest.fixture
def server(replies: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    with ModelServer(replies) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("AETHR_LIVE", "1")
        yield server


@pytest.fixture
def staged(project: Repo) -> Repo:
    project.write(".aethr.yaml", WORKFLOW)
    project.git("add", "-A")
    return project


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "kept"


def kept(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.answers"))


def test_the_same_change_gets_the_same_verdict_without_a_call(
    aethr: Aethr, staged: Repo, server: ModelServer, folder: Path
) -> None:
    words = ("hook", "--checkpoint-dir", str(folder))
    first, again = aethr(*words), aethr(*words)
    assert len(server.bodies) == 1, "the next reply would be a pass"
    assert first.code == again.code == 1
    assert "app.py:2: [high] the total is off by one" in again.out
    assert "1 step, 1 answer used again, 0 tokens" in again.out
    [file] = kept(folder)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert KEY not in file.read_text()
    assert aethr(*words, "--fresh").code == 0
    assert len(server.bodies) == 2
    assert aethr(*words).code == 0, "the latest answer counts"
    staged.write("app.py", "def total(prices):\n    return sum(prices) + 2\n")
    staged.git("add", "-A")
    aethr(*words)
    assert len(server.bodies) == 3


def test_without_a_folder_a_hook_keeps_nothing(aethr: Aethr, staged: Repo, server: ModelServer) -> None:
    before = sorted(staged.root.rglob("*"))
    assert (aethr("hook").code, aethr("hook").code) == (1, 0)
    assert len(server.bodies) == 2
    assert [each for each in sorted(staged.root.rglob("*")) if ".git" not in each.parts] == [
        each for each in before if ".git" not in each.parts
    ]


@pytest.mark.parametrize("text", ["", "eNo=", "é", "x" * (2 << 20)])
def test_a_file_that_no_key_has_sealed_is_ignored_with_its_reason(
    aethr: Aethr, staged: Repo, server: ModelServer, folder: Path, text: str
) -> None:
    words = ("hook", "--checkpoint-dir", str(folder))
    aethr(*words)
    [file] = kept(folder)
    file.write_text(text, encoding="utf-8")
    done = aethr(*words)
    assert len(server.bodies) == 2
    assert f"the answers of earlier runs in {folder} are ignored: it " in done.out
    aethr(*words)
    assert len(server.bodies) == 2, "the file was written anew"


def test_a_file_of_another_folder_or_key_is_ignored(
    aethr: Aethr, staged: Repo, server: ModelServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("hook", "--checkpoint-dir", str(folder))
    aethr(*words)
    [file] = kept(folder)
    own = file.read_text()
    elsewhere = staged.root / "sub"
    (elsewhere / ".aethr.yaml").parent.mkdir()
    (elsewhere / ".aethr.yaml").write_text(WORKFLOW)
    monkeypatch.chdir(elsewhere)
    aethr(*words)
    assert len(server.bodies) == 2
    [other] = [each for each in kept(folder) if each != file]
    other.write_text(own)
    assert "are ignored: it was made for another project" in aethr(*words).out
    monkeypatch.chdir(staged.root)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-another-0123456789")
    assert "are ignored: it is not sealed with a key of this run" in aethr(*words).out


def test_a_folder_that_cannot_be_written_costs_no_review(
    aethr: Aethr, staged: Repo, server: ModelServer, folder: Path
) -> None:
    words = ("hook", "--checkpoint-dir", str(folder))
    aethr(*words)
    [file] = kept(folder)
    file.unlink()
    file.mkdir()
    done = aethr(*words)
    assert done.code == 0, done.out
    assert "cannot keep the answers" in done.out


@pytest.mark.parametrize("replies", [[MEDIUM, drop(PROOF)]])
def test_the_check_of_a_review_is_not_asked_again_either(
    aethr: Aethr, checked: Repo, server: ModelServer, folder: Path
) -> None:
    checked.git("add", "-A")
    words = ("hook", "--checkpoint-dir", str(folder), "--fail-on", "medium")
    first, again = aethr(*words), aethr(*words)
    assert len(server.bodies) == 2
    assert first.code == again.code == 0, again.out
    assert "dropped by verify" in first.out
    assert "dropped by verify" in again.out
