"""``aethr answer``: what it takes, what it refuses, and what it leaves of the file."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from aethr.review.identity import place_id
from tests.support import Repo, aethr

WORKFLOW = """\
workflow: w
roles: {reviewer: Review.}
steps:
  - {id: review, role: reviewer, context: [git_diff]}
"""
ID = place_id("app.py", ["x = 1"], 1)
BY_HAND = ("--severity", "medium", "--message", "x is never read")


@pytest.fixture
def project(repo: Repo) -> Repo:
    repo.write("app.py", "x = 1\n")
    repo.write(".aethr.yaml", WORKFLOW)
    repo.commit()
    return repo


def record(project: Repo, *findings: dict[str, Any]) -> str:
    project.write("r.json", json.dumps({"schema": 2, "review": {"findings": findings}}))
    return "r.json"


def finding(**more: Any) -> dict[str, Any]:
    return {"severity": "high", "path": "app.py", "message": "x is\nnever read", "id": ID, **more}


def refused(project: Repo, *words: str) -> str:
    before = (project.root / ".aethr.yaml").read_bytes()
    done = aethr("answer", *words, cwd=project.root)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    assert (project.root / ".aethr.yaml").read_bytes() == before
    return done.stderr


def test_an_answer_is_added_listed_and_removed(project: Repo) -> None:
    done = aethr("answer", ID.upper(), *BY_HAND, "--reason", "  kept for scripts ", cwd=project.root)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"Answered in .aethr.yaml: [medium] x is never read ({ID})\n"
    assert (project.root / ".aethr.yaml").read_text(encoding="utf-8") == (
        f"{WORKFLOW}answers:\n  - id: {ID}\n    severity: medium\n    message: x is never read\n"
        "    reason: kept for scripts\n"
    )
    listed = aethr("answer", "--list", cwd=project.root)
    assert (listed.returncode, listed.stdout) == (
        0,
        f"[medium] x is never read ({ID})\n    kept for scripts\n",
    )
    assert ".aethr.yaml:6: this finding is answered" in refused(project, ID, *BY_HAND, "--reason", "again")
    assert aethr("answer", "--remove", ID, cwd=project.root).returncode == 0
    assert (project.root / ".aethr.yaml").read_text(encoding="utf-8") == WORKFLOW
    assert aethr("answer", "--list", cwd=project.root).stdout == ""


def test_all_ids_of_a_merged_finding_come_from_the_record(project: Repo) -> None:
    other = place_id("app.py", ["x = 1"])
    file = record(project, finding(ids=[other, ID]))
    words = ("answer", other, "--record", file, "--reason", "r")
    done = aethr(*words, cwd=project.root)
    assert (done.returncode, done.stdout) == (
        0,
        f"Answered in .aethr.yaml: [high] x is never read ({other})\n",
    )
    text = (project.root / ".aethr.yaml").read_text(encoding="utf-8")
    assert text.endswith(f"    reason: r\n    also:\n      - {ID}\n")
    assert "this finding is answered" in refused(project, ID, "--record", file, "--reason", "again")
    assert aethr("answer", "--remove", other, cwd=project.root).returncode == 0
    assert (project.root / ".aethr.yaml").read_text(encoding="utf-8") == WORKFLOW


def test_severity_and_message_come_from_the_record(project: Repo) -> None:
    file = record(project, finding(id=None), finding())
    assert aethr("answer", ID, "--record", file, "--reason", "r", cwd=project.root).returncode == 0
    assert "severity: high\n    message: x is never read\n" in (project.root / ".aethr.yaml").read_text()


def test_two_findings_of_one_place_have_to_be_told_apart(project: Repo) -> None:
    file = record(project, finding(), finding(message="x has no type", severity="low"))
    said = refused(project, ID, "--record", file, "--reason", "r")
    assert f"  app.py: [high] x is\\nnever read ({ID})\n" in said
    assert f"  app.py: [low] x has no type ({ID})\n" in said
    assert "give --severity and --message of the one that you mean" in said


@pytest.mark.skipif(os.name != "posix", reason="modes and links")
def test_mode_and_link_of_the_file_stay(project: Repo) -> None:
    file = project.root / ".aethr.yaml"
    (project.root / "conf").mkdir()
    real = file.rename(project.root / "conf" / "flow.yaml")
    file.symlink_to("conf/flow.yaml")
    real.chmod(0o640)
    assert aethr("answer", ID, *BY_HAND, "--reason", "r", cwd=project.root).returncode == 0
    assert file.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert real.read_text(encoding="utf-8").startswith(f"{WORKFLOW}answers:\n")
    assert sorted(each.name for each in (project.root / "conf").iterdir()) == ["flow.yaml"]


def test_another_workflow_file_is_named(project: Repo) -> None:
    project.write("ci/review.yaml", WORKFLOW)
    words = ("--config", "ci/review.yaml")
    assert aethr("answer", ID, *BY_HAND, "--reason", "r", *words, cwd=project.root).returncode == 0
    assert ID in (project.root / "ci/review.yaml").read_text()
    assert (project.root / ".aethr.yaml").read_text() == WORKFLOW


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "which finding?"),
        (("--list", "--remove", ID), "--list and --remove exclude each other"),
        (("--list", "--reason", "r"), "--reason does not go with --list"),
        ((ID,), "--reason is missing"),
        ((ID, "--reason", " ", *BY_HAND), "--reason: expected a reason, got an empty text"),
        ((ID, "--reason", "a\x1b[2Jb", *BY_HAND), r"the text contains the control character \x1b"),
        ((ID, "--reason", "r"), "Aethr keeps nothing between runs"),
        ((ID, "--reason", "r", "--severity", "low"), "Or give both --severity and --message"),
        ((ID, "--reason", "r", "--severity", "hihg"), "did you mean 'high'?"),
        ((ID[:7], "--reason", "r", *BY_HAND), "is not 12 of the characters 0-9 a-f"),
        ((ID, "--reason", "r", "--record", "r.json", *BY_HAND), "exclude each other"),
        ((ID, "--reason", "r", "--record", "gone.json"), "gone.json: cannot be read: No such file"),
        ((ID, "--reason", "r", "--record", "app.py"), "app.py: not a run record: it is not JSON"),
        ((ID, "--reason", "r", "--record", "empty.json"), "not a run record: 'review' is missing"),
        (
            ("f" * 12, "--reason", "r", "--record", "r.json"),
            f"no finding has the id ffffffffffff (it has {ID})",
        ),
        (("--remove", ID), f".aethr.yaml: no answer {ID}"),
        ((ID, "--reason", "r", *BY_HAND, "--config", "gone.yaml"), "gone.yaml: no such file"),
    ],
)
def test_mistakes_are_one_clear_line_and_change_nothing(
    project: Repo, words: tuple[str, ...], said: str
) -> None:
    record(project, finding())
    project.write("empty.json", "{}")
    assert said in refused(project, *words)


def test_without_a_workflow_file(repo: Repo) -> None:
    done = aethr("answer", ID, *BY_HAND, "--reason", "r", cwd=repo.root)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no .aethr.yaml in this project" in done.stderr
    assert not (repo.root / ".aethr.yaml").exists()


def test_the_check_tells_of_answers_whose_lines_have_changed(project: Repo) -> None:
    lines = ["def pay(order):", "    total = order.total", "    return total"]
    place = place_id("shop.py", lines, 2, 3)
    project.write("shop.py", "\n".join(["import os", "", *lines, ""]))
    project.git("add", "-A")
    words = ("--severity", "low", "--message", "x is wrong", "--reason", "r")
    assert aethr("answer", place, *words, cwd=project.root).returncode == 0
    assert aethr("check", cwd=project.root).stderr == ""
    project.write("shop.py", "\n".join([*lines[:2], "    return total + 1", ""]))
    said = aethr("check", cwd=project.root).stderr
    assert f"the answer {place}: its lines are not there any more" in said
    other = place_id("shop.py", lines, 1)
    project.write(".aethr.yaml", (project.root / ".aethr.yaml").read_text() + f"    also: [{other}]\n")
    assert aethr("check", cwd=project.root).stderr == "", "those that another reviewer named are there"


def test_the_check_tells_of_answers_that_cannot_be_needed(project: Repo) -> None:
    def answer(place: str, message: str, severity: str = "low") -> str:
        words = ("--severity", severity, "--message", message, "--reason", "r")
        assert aethr("answer", place, *words, cwd=project.root).returncode == 0
        return aethr("check", cwd=project.root).stderr

    assert answer(ID, "x is never read") == ""
    assert answer(place_id(""), "the change has no tests") == ""
    gone = place_id("gone.py", ["y"], 1)
    assert answer(gone, "y is never read") == (
        f"note: .aethr.yaml:14: the answer {gone}: no file has its path any more; "
        "it only covers the same code in a renamed file\n"
    )
    assert f".aethr.yaml:6: the answer {ID} says no more than the one on line 18" in answer(
        ID, "x is never read", "high"
    )
