"""What rules exclude, in whole runs: every output names it, and a gate opens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.live import PASS, Aethr, aethr, project, serving, temp
from tests.model_server import text
from tests.support import Repo

__all__ = ["aethr", "project", "temp"]
GATED = ("run", "--preset", "review-existing-diff", "--diff", "all", "--fail-on", "low", "look")
FILES = {
    "logo.png": (b"\x89PNG\0new", "logo.png"),
    "package-lock.json": (b"line\n" * 40_000, "package-lock.json (+40,000 -0)"),
    "lib/a.min.js": (b"run();" * 100_000 + b"\n", "lib/a.min.js (+1 -0)"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_pass_names_what_was_excluded(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    content, shown = FILES[name]
    project.write(name, content)
    reports = [f"--report={tmp_path / kind}" for kind in ("r.json", "r.md", "r.txt", "r.sarif")]
    with serving(monkeypatch, text(PASS)) as server:
        done = aethr(*GATED, *reports)
    assert done.code == 0, done.out + done.err
    last = f"Review status: pass; excluded by rule: {shown}"
    assert last in done.out.splitlines()
    prompt = server.bodies[0]["messages"][0]["content"]
    assert f"[excluded by rule: {name}, " in prompt
    assert content.decode("latin-1")[:60] not in prompt
    record = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert [each["path"] for each in record["excluded"]] == [name]
    assert record["review"]["coverage"] == 1
    assert record["outcome"] == "pass"
    assert f"excluded by rule: {shown}: " in (tmp_path / "r.txt").read_text(encoding="utf-8")
    assert "## Excluded by rule" in (tmp_path / "r.md").read_text(encoding="utf-8")
    sarif = json.loads((tmp_path / "r.sarif").read_text(encoding="utf-8"))["runs"][0]
    assert sarif["results"] == []
    assert sarif["invocations"][0]["toolExecutionNotifications"][0]["message"]["text"] == last


def test_a_change_of_which_all_is_excluded_calls_nothing(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.git("checkout", "-q", "app.py")
    for name, (content, _) in FILES.items():
        project.write(name, content)
    with serving(monkeypatch) as server:
        done = aethr(*GATED)
        record = json.loads(aethr(*GATED, "--json").out)
    assert (done.code, server.bodies) == (0, [])
    names = "lib/a.min.js (+1 -0), logo.png, package-lock.json (+40,000 -0)"
    assert f"Nothing to review: all of the change is excluded by rule: {names}" in done.out.splitlines()
    assert (record["outcome"], record["exit_code"]) == ("nothing-to-review", 0)
    assert [each["path"] for each in record["excluded"]] == sorted(FILES)


def test_excluded_files_beside_something_unreadable_are_incomplete(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("logo.png", b"\x89PNG\0new")
    project.write("e.js", "run()/*\0*/\n")
    with serving(monkeypatch, text(PASS)):
        done = aethr(*GATED)
    assert done.code == 4
    assert "not sent: e.js (binary); excluded by rule: logo.png" in done.out


def test_without_the_defaults_a_gate_is_as_strict_as_ever(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(
        ".aethr.yaml",
        'workflow: w\nroles: {reviewer: "Review."}\nmodels: {reviewer: "openai:gpt-4o-mini"}\n'
        "steps:\n  - {id: review, role: reviewer, context: [git_diff]}\nexclude_defaults: false\n",
    )
    project.commit()
    project.write("logo.png", b"\x89PNG\0new")
    words = ("run", "--diff", "all", "--fail-on", "low", "look")
    with serving(monkeypatch, text(PASS), text(PASS)):
        assert aethr(*words).code == 4
        project.write(".aethr.yaml", (project.root / ".aethr.yaml").read_text() + 'exclude: ["*.png"]\n')
        done = aethr(*words)
    assert done.code == 0, done.out
    assert "decides how changes are reviewed and what is excluded: .aethr.yaml" in done.out


def test_a_resume_notices_that_a_file_is_no_longer_excluded(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    workflow = (
        'workflow: w\nroles: {reviewer: "Review."}\nmodels: {reviewer: "openai:gpt-4o-mini"}\n'
        "steps:\n  - {id: review, role: reviewer, context: [git_diff]}\n"
    )
    project.write(".aethr.yaml", workflow + 'exclude: ["*.txt"]\n')
    project.commit()
    project.write("app.py", "x = 1\n")
    project.write("a.txt")
    folder = tmp_path / "checkpoints"
    with serving(monkeypatch, text(PASS)) as server:
        words = ("run", "--diff", "all", "--fail-on", "low")
        assert aethr(*words, f"--checkpoint-dir={folder}", "look").code == 0
        project.write(".aethr.yaml", workflow)
        (file,) = folder.iterdir()
        done = aethr(*words, f"--resume-checkpoint=@{file}")
    assert done.code == 2
    assert "its exclude changed since then" in done.err
    assert len(server.bodies) == 1
    assert '"base_side": "' in file.read_text()
