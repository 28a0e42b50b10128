"""``propose`` on real histories, and what ``--from-fix`` and ``--from-range`` print."""

from __future__ import annotations

import io
import shlex
import subprocess

import pytest

from aethr.base.errors import UsageError
from aethr.evaluation.proposals import MOST_COMMITS, main, propose
from tests.support import Repo

FIX, TEST = "says fix", "changes a test with the code"


def commit(repo: Repo, message: str, *names: str) -> str:
    """A commit that edits these files, which are there before."""
    for name in names:
        path = repo.root / name
        repo.write(name, path.read_text() + "more\n" if path.exists() else "new\n")
    return repo.commit(message)


@pytest.fixture
def history(repo: Repo) -> Repo:
    commit(repo, "start", "a.py", "tests/test_a.py", "README.md", ".github/workflows/ci.yml", "data.json")
    repo.git("tag", "start")
    return repo


COMMITS: tuple[tuple[str, list[str], tuple[str, ...]], ...] = (
    ("Fix the last page", ["a.py"], (FIX,)),
    ("fix(pages): count them", ["a.py"], (FIX,)),
    ("Bugfix: count", ["a.py"], (FIX,)),
    ("Count pages\n\nCloses #12.", ["a.py"], ("closes an issue",)),
    ("Count pages\n\nResolves: owner/name#12", ["a.py"], ("closes an issue",)),
    ("Work around a bug in the parser", ["a.py"], ("names a bug",)),
    ("Regression of 1.2", ["a.py"], ("names a regression",)),
    ('Revert "Faster pages"', ["a.py"], ("reverts a change",)),
    ("Do not crash without pages", ["a.py"], ("names a failure",)),
    ("CVE-2026-1234", ["a.py"], ("names a vulnerability",)),
    ("Fixes a crash, closes #3", ["a.py"], (FIX, "closes an issue", "names a failure")),
    ("Count pages", ["a.py", "tests/test_a.py"], (TEST,)),
    ("Count pages", ["a.py", "tests/test_new.py"], (TEST,)),
    ("Count pages", ["a.py"], ()),
    ("Prefix and suffix, debugging, fixture", ["a.py"], ()),
    ("Add pages\n\nFixes nothing, closes #1", ["a.py", "tests/test_a.py"], ()),
    ("Add pages, fix the last one", ["a.py"], (FIX,)),
    ("Fix a typo", ["a.py"], ()),
    ("Fix the test", ["tests/test_a.py"], ()),
    ("Fix the page", ["README.md", "data.json"], ()),
    ("Fix CI", [".github/workflows/ci.yml"], ()),
    ("Fix the runner", [".github/workflows/ci.yml"], ()),
    ("Fix it with a new file", ["new.py"], ()),
)


def test_a_message_and_the_files_say_what_may_be_a_fix(history: Repo) -> None:
    made = [commit(history, message, *names) for message, names, _ in COMMITS]
    rows = [
        (id_, message.split("\n")[0], reasons)
        for id_, (message, _, reasons) in zip(made, COMMITS, strict=True)
        if reasons
    ]
    assert list(propose(history.root, "start..HEAD")) == rows[::-1]


def test_the_newest_comes_first_and_merges_are_not_proposed(history: Repo) -> None:
    first = commit(history, "Fix one", "a.py")
    history.git("switch", "-q", "-c", "topic")
    second = commit(history, "Fix two", "b.py", "a.py")
    history.git("switch", "-q", "main")
    commit(history, "other", "c.py")
    history.git("merge", "-q", "--no-ff", "-m", "Fix the merge", "topic")
    assert [each.commit for each in propose(history.root, "start..HEAD")] == [second, first]
    assert [each.commit for each in propose(history.root, f"{first}..")] == [second]
    assert propose(history.root, "HEAD..start") == ()


def test_what_is_not_a_range_is_refused(history: Repo) -> None:
    for text in ("HEAD", "", "start...HEAD"):
        with pytest.raises(UsageError, match="is not a range"):
            propose(history.root, text)


def test_a_range_that_is_not_read_to_its_end_is_refused(history: Repo) -> None:
    commits = "commit refs/heads/many\ncommitter A <a@example.invalid> 0 +0000\ndata 1\nx\n" * (
        MOST_COMMITS + 2
    )
    subprocess.run(["git", "fast-import", "--quiet"], cwd=history.root, input=commits.encode(), check=True)
    assert propose(history.root, f"many~{MOST_COMMITS}..many") == ()
    with pytest.raises(UsageError, match="more than 2,000 commits"):
        propose(history.root, f"many~{MOST_COMMITS + 1}..many")


def test_a_range_of_what_is_not_a_commit_is_refused(history: Repo) -> None:
    for text in ("nothing..HEAD", "start..nothing", "start..-x", "HEAD^{tree}..HEAD"):
        with pytest.raises(UsageError, match=r"--from-range: .* is not a commit here"):
            propose(history.root, text)


def test_a_pipe_gets_the_list_and_commands_that_can_be_pasted(
    history: Repo, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = commit(history, "Fix it; touch pwned `touch pwned` $(touch pwned) \x1b[31m", "a.py")
    monkeypatch.setattr("sys.stdin", io.StringIO())
    out = history.root / "my cases"
    assert main(history.root, None, "start..", out, "high") == 0
    listed, _, commands = capsys.readouterr().out.partition("\n\n")
    assert listed.startswith(f"  1  {made[:12]}  Fix it; touch pwned")
    assert "\x1b" not in listed
    assert [shlex.split(line) for line in commands.splitlines()] == [
        ["aethr", "eval", "--from-fix", made[:12], "--severity", "high", "--out", str(out)]
    ]
    assert not out.exists()
    assert main(history.root, None, "start..", history.root / "cases", "medium") == 0
    assert capsys.readouterr().out.endswith(f"\n\naethr eval --from-fix {made[:12]}\n")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("answer", "chosen"), [("1,3\n", [1, 3]), ("2-3 1", [2, 3, 1]), ("all\n", [1, 2, 3]), ("", [])]
)
def test_a_person_chooses_by_number(
    history: Repo,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    chosen: list[int],
) -> None:
    made = [commit(history, f"Fix number {number}", "a.py") for number in (3, 2, 1)][::-1]
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    out = history.root / "cases"
    assert main(history.root, None, "start..HEAD", out, "medium") == 0
    folders = [f"fix-number-{number}-{made[number - 1][:12]}" for number in chosen]
    assert sorted(path.name for path in out.glob("*")) == sorted(folders)
    printed = capsys.readouterr().out
    assert all(f"cases/{name}: a.py:" in printed for name in folders)


def test_another_answer_makes_nothing(history: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        commit(history, f"Fix number {number}", "a.py")
    for answer in ("0", "4", "2-1", "1-4", "x", "1,,x", "-1", "1-", "9999999"):
        monkeypatch.setattr("sys.stdin", Terminal(answer))
        with pytest.raises(UsageError, match="not one of the numbers 1 to 3"):
            main(history.root, None, "start..HEAD", history.root / "cases", "medium")
    assert not (history.root / "cases").exists()


def test_one_that_cannot_be_made_does_not_keep_the_others(
    history: Repo, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):
        commit(history, f"Fix number {number}", "a.py")
    out = history.root / "cases"
    assert main(history.root, "HEAD", None, out, "low") == 0
    assert "severity: low" in next(out.glob("*/expect.yaml")).read_text()
    monkeypatch.setattr("sys.stdin", Terminal("all"))
    assert main(history.root, None, "start..HEAD", out, "medium") == 2
    assert len(list(out.iterdir())) == 2
    assert "Not made: " in capsys.readouterr().out


def test_a_range_without_fixes_says_so(history: Repo, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(history.root, None, "start..HEAD", history.root / "cases", "medium") == 0
    assert capsys.readouterr().out == "No commit in start..HEAD looks like a bug fix.\n"
