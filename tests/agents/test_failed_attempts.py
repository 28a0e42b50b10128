"""What a failed attempt of an agent step changed is in front of the reviewer, or the review is incomplete."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from aethr.engine import checkpoint
from aethr.snapshot import attempts
from tests.agents.test_opencode import environment
from tests.fake_agent import DIALECTS, Dialect, install
from tests.live import PASS, REVISE, Aethr, Done, aethr, project, resume_words, serving, temp
from tests.model_server import error, text
from tests.support import Repo, make_repo, nightly
from tests.tool_server import Call, Fault, Turn
from tests.tool_server import serving as serving_tools

__all__ = ["aethr", "project", "temp"]

pytestmark = pytest.mark.skipif(os.name != "posix", reason="agent steps need Linux or macOS")

OPENCODE = DIALECTS["opencode"]
GATE = ("--json", "--fail-on", "revise", "--require-review")
WORKFLOW = """\
workflow: two
roles: {{implementer: "Implement.", reviewer: "Review."}}
models: {{implementer: "{model}", reviewer: "openai:gpt-4o-mini"}}
steps:
  - {{id: implement, role: implementer, backend: {agent}}}
  - {{id: review, role: reviewer, context: [{context}]{repeat}}}
"""


class Desk:
    """A project whose agent can be scripted, and the command line at it."""

    def __init__(self, aethr: Aethr, repo: Repo, bin_folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.aethr, self.repo, self.bin, self.patch = aethr, repo, bin_folder, patch
        self.say = OPENCODE
        self.reviewed: list[str] = []

    def uses(self, say: Dialect = OPENCODE, context: str = "latest_diff", repeat: str = "") -> None:
        self.say = say
        words = {"agent": say.name, "model": say.model, "context": context, "repeat": repeat}
        self.repo.write(".aethr.yaml", WORKFLOW.format_map(words))
        self.repo.git("add", ".aethr.yaml")
        self.repo.git("commit", "-q", "--allow-empty", "-m", "the workflow")

    def agent(self, *script: str, ends: str | None = None) -> None:
        """What the agent does when it is next started; it keeps its prompt. By default it ends well."""
        ends = self.say.says(*self.say.text("Done."), *self.say.finish()) if ends is None else ends
        lines = (f"cat > '{self.bin}/prompt'", *script, ends)
        install(self.bin, self.say, "\n".join(lines))

    def run(self, *words: str, answers: tuple[str, ...] = ()) -> Done:
        with serving(self.patch, *map(text, answers)) as server:
            done = self.aethr(*words)
        self.reviewed = [body["messages"][-1]["content"] for body in server.bodies]
        return done

    def fail(self, *script: str, ends: str | None = None, code: int = 3) -> list[str]:
        """An attempt that fails; gives the words that resume the run."""
        self.agent(*script, ends=self.say.says(*self.say.error("it burns")) if ends is None else ends)
        done = self.run("run", *GATE, "do it")
        assert done.code == code, done.err
        return resume_words(done.err)

    def resume(self, words: list[str], *script: str, answer: str = PASS) -> Done:
        self.agent(*script)
        return self.run(*words, answers=(answer,))

    @property
    def prompt(self) -> str:
        return (self.bin / "prompt").read_text(encoding="utf-8")


@pytest.fixture
def desk(aethr: Aethr, project: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """With work that was there before: a changed file, and one that git does not know."""
    found = Desk(aethr, project, tmp_path / "bin", monkeypatch)
    monkeypatch.setenv("PATH", f"{found.bin}{os.pathsep}{os.environ['PATH']}")
    found.uses()
    project.write("app.py", "mine, before\n")
    project.write("mine.py", "mine, before\n")
    return found


def edit(name: str, line: str) -> str:
    return f"echo '{line}' > '{name}'"


def review_of(done: Done) -> dict[str, object]:
    review = done.record["review"]
    assert isinstance(review, dict)
    return review


# --- the edits are reviewed ---


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_what_a_failed_attempt_changed_is_reviewed(desk: Desk, temp: Path, name: str) -> None:
    desk.uses(DIALECTS[name])
    words = desk.fail(edit("first.py", "BACKDOOR"), edit("mine.py", "and the agent"))
    (objects,) = temp.glob("*.objects")
    assert objects.stat().st_mode & 0o777 == 0o700
    shown = desk.run(*words, "--show-prompt").record
    done = desk.resume(words, edit("second.py", "more"))
    assert done.code == 0, done.err
    assert all(line in desk.reviewed[0] for line in ("+BACKDOOR\n", "+more\n", "-mine, before\n"))
    assert "and the agent" in desk.reviewed[0]
    assert "app.py" not in desk.reviewed[0]  # it was like that before
    assert done.record["steps"][0]["artifacts"]["changed_files"] == ["first.py", "mine.py", "second.py"]
    assert "the failed attempt of step 'implement' had already changed: first.py, mine.py" in done.err
    assert "measured from before the first attempt" in "".join(done.record["steps"][0]["notes"])
    assert "first.py\nmine.py\n" in desk.prompt
    assert desk.prompt == shown[0]["prompt"]
    assert list(temp.iterdir()) == []


def test_edits_of_an_earlier_attempt_are_not_called_no_change(desk: Desk) -> None:
    words = desk.fail(edit("first.py", "BACKDOOR"))
    done = desk.resume(words)
    assert done.code == 0, done.err
    assert "+BACKDOOR\n" in desk.reviewed[0]
    assert "changed nothing" not in done.err + "".join(done.record["steps"][0]["notes"]) + desk.reviewed[0]


def test_several_attempts_and_what_was_edited_between_them(desk: Desk, temp: Path) -> None:
    words = desk.fail(edit("a.py", "of the first"), edit("gone.py", "of the first"))
    desk.repo.write("users.py", "of the user\n")
    desk.agent(edit("a.py", "of the second"), "rm gone.py", ends="exit 7\n")
    again = desk.run(*words)
    assert again.code == 3
    assert "files changed before it failed: a.py, users.py" in again.err
    assert (again.err.count("objects"), len(list(temp.glob("*.objects")))) == (0, 1)
    done = desk.resume(resume_words(again.err), edit("c.py", "of the third"))
    assert done.code == 0, done.err
    added = set(re.findall(r"^ *\d+ (\+.*)", desk.reviewed[0], re.MULTILINE))
    assert added == {"+of the second", "+of the third", "+of the user"}
    assert "includes all edits since then" in done.err
    assert "a.py\nusers.py\n" in desk.prompt
    assert list(temp.iterdir()) == []


def test_what_was_reverted_before_the_resume_is_not_a_change(desk: Desk) -> None:
    desk.agent()
    desk.run("run", "do it")
    fresh = desk.prompt
    words = desk.fail(edit("first.py", "BACKDOOR"), edit("mine.py", "and the agent"))
    (desk.repo.root / "first.py").unlink()
    desk.repo.write("mine.py", "mine, before\n")
    done = desk.resume(words)
    assert done.code == 0, done.err
    assert desk.prompt == fresh
    assert (desk.reviewed, done.record["steps"][0]["artifacts"]["changed_files"]) == ([], [])
    assert "the failed attempt" not in done.err


def test_a_run_without_a_checkpoint_starts_over(desk: Desk) -> None:
    desk.fail(edit("first.py", "BACKDOOR"))
    desk.agent(edit("second.py", "more"))
    done = desk.run("run", *GATE, "do it", answers=(PASS,))
    assert done.code == 0, done.err
    assert "BACKDOOR" not in desk.reviewed[0]
    assert ("attempt" in done.err, "earlier attempt" in desk.prompt) == (False, False)


def test_commits_and_a_branch_of_the_failed_attempt(desk: Desk) -> None:
    commit = "git -c user.name=A -c user.email=a@b.invalid commit -qm x"
    script = ("git switch -qc topic", edit("first.py", "BACKDOOR"), "git add first.py", commit)
    done = desk.resume(desk.fail(*script), edit("second.py", "more"))
    assert done.code == 0, done.err
    assert "+BACKDOOR\n" in desk.reviewed[0]
    assert "switched from main to topic (HEAD moved" in "".join(done.record["steps"][0]["notes"])


def test_an_attempt_cannot_hide_its_edits_from_the_next_one(desk: Desk) -> None:
    """What was recorded before it is looked at again, whether or not git still would."""
    script = (edit("README.md", "BACKDOOR"), edit("mine.py", "and this"), "git rm -q --cached README.md")
    words = desk.fail(*script, "echo '*.md\nmine.py' > .gitignore")
    done = desk.resume(words)
    assert done.code == 4, done.err
    assert str(review_of(done)["reason"]).endswith("committed or staged, but not in the tree: README.md")
    assert all(line in desk.reviewed[0] for line in ("+BACKDOOR\n", "+and this\n", "+mine.py\n"))


FAILURES = {
    "refused": (OPENCODE.says(*OPENCODE.refused("bash")), 3, ()),
    "exit code": ("exit 7\n", 3, ()),
    "killed": ("kill -9 $$\n", 3, ()),
    "max-tokens": (OPENCODE.says(*OPENCODE.edit("first.py"), *OPENCODE.finish()), 5, ("--max-tokens", "300")),
    "max-cost": (OPENCODE.says(*OPENCODE.edit("first.py"), *OPENCODE.finish()), 5, ("--max-cost", "0.3")),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAILURES)
def test_edits_are_reviewed_however_an_attempt_fails(desk: Desk, name: str) -> None:
    ends, code, options = FAILURES[name]
    desk.agent(edit("first.py", "BACKDOOR"), ends=ends)
    failed = desk.run("run", *GATE, *options, "do it")
    assert failed.code == code, failed.err
    words = [word for word in resume_words(failed.err) if word not in options]
    done = desk.resume(words, edit("second.py", "more"))
    assert done.code == 0, done.err
    assert "+BACKDOOR\n" in desk.reviewed[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda each: each.name
)
def test_however_aethr_is_stopped(desk: Desk, temp: Path, number: signal.Signals) -> None:
    ready = temp.parent / "ready"
    os.mkfifo(ready)
    desk.agent(edit("first.py", "BACKDOOR"), f"echo $$ > '{ready}'", "sleep 600 & wait")
    words = [sys.executable, "-m", "aethr", "run", *GATE, "do it"]
    with (
        serving(desk.patch),
        subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child,
    ):
        agent = int(ready.read_text())
        child.send_signal(number)
        child.wait(20)
    if number == signal.SIGKILL:
        os.killpg(os.getpgid(agent), signal.SIGKILL)  # nobody else is left to end it
    (file,) = temp.glob("*.jsonl")
    done = desk.resume(["run", *GATE, "--resume-checkpoint", f"@{file}"], edit("second.py", "more"))
    assert done.code == 0, done.err
    assert "the failed attempt of step 'implement' had already changed: first.py" in done.err
    assert "+BACKDOOR\n" in desk.reviewed[0]
    assert list(temp.glob("*.objects")) == []


class Signalling(io.StringIO):
    """A standard output during whose first writing of a text this process gets a signal."""

    def __init__(self, number: signal.Signals, during: str) -> None:
        super().__init__()
        self.number, self.during = number, during

    def write(self, text: str) -> int:
        if self.during in text:
            self.during = "\0"
            os.kill(os.getpid(), self.number)
        return super().write(text)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_a_signal_while_a_text_of_the_agent_is_shown_names_its_edits(
    desk: Desk, temp: Path, number: signal.Signals, code: int
) -> None:
    waits = f"{desk.say.says(*desk.say.text('Halfway.'))}\nsleep 20 & wait"
    desk.agent(edit("first.py", "BACKDOOR"), ends=waits)
    with desk.patch.context() as patch:
        patch.setattr(sys, "stdout", Signalling(number, "Halfway."))
        stopped = desk.run("run", "--stream", "do it")
    assert stopped.code == code, stopped.err
    (file,) = temp.glob("*.jsonl")
    saved = checkpoint.load(f"@{file}")
    assert saved.failure is not None
    assert saved.failure.changed_files == ("first.py",)


def test_an_attempt_of_a_later_pass_starts_at_that_pass(desk: Desk, temp: Path) -> None:
    loop = ", repeat: {back_to: implement, until_review_pass: true, max_iterations: 3}"
    desk.uses(repeat=loop)
    one = desk.say.says(*desk.say.text("One."), *desk.say.finish())
    first, second = edit("pass1.py", "of pass 1"), edit("pass2.py", "BACKDOOR")
    desk.agent(f"if [ -e pass1.py ]; then {second}; exit 7; fi", first, ends=one)
    failed = desk.run("run", *GATE, "do it", answers=(REVISE,))
    assert failed.code == 3, failed.err
    saved = checkpoint.load(f"@{next(temp.glob('*.jsonl'))}")
    assert saved.attempt is not None
    assert (saved.attempt.step, saved.attempt.iteration) == ("implement", 2)
    done = desk.resume(resume_words(failed.err), edit("more.py", "more"))
    assert done.code == 0, done.err
    assert ("+BACKDOOR\n" in desk.reviewed[0], "diff --git a/pass1.py" in desk.reviewed[0]) == (True, False)
    assert [step["iteration"] for step in done.record["steps"]] == [1, 1, 2, 2]


def test_the_next_agent_step_takes_the_edits_over_if_renamed(desk: Desk) -> None:
    words = desk.fail(edit("first.py", "BACKDOOR"))
    workflow = desk.repo.root / ".aethr.yaml"
    workflow.write_text(workflow.read_text().replace("id: implement", "id: build"))
    done = desk.resume(words, edit("second.py", "more"))
    assert done.code == 0, done.err
    assert "+BACKDOOR\n" in desk.reviewed[0]


# --- or the review is incomplete ---


def without_objects(desk: Desk, file: Path) -> Path:
    copy = file.with_name("copied.jsonl")
    shutil.copyfile(file, copy)
    return copy


def damaged(desk: Desk, file: Path) -> Path:
    for each in attempts.find(file).glob("*/*"):
        each.chmod(0o600)
        each.write_bytes(b"")
    return file


def behind_a_link(desk: Desk, file: Path) -> Path:
    objects = attempts.find(file)
    objects.symlink_to(objects.rename(file.with_name("elsewhere")))
    return file


def of_an_earlier_version(desk: Desk, file: Path) -> Path:
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if not line.startswith('{"attempt"')))
    return file


def on_another_branch(desk: Desk, file: Path) -> Path:
    desk.repo.git("stash", "-qu")
    desk.repo.git("switch", "-q", "--orphan", "other")
    desk.repo.git("commit", "-q", "--allow-empty", "-m", "nothing yet")
    desk.repo.git("checkout", "-q", "main", "--", ".")
    return file


def in_another_folder(desk: Desk, file: Path) -> Path:
    copy = desk.repo.root.with_name("copy")
    shutil.copytree(desk.repo.root, copy)
    desk.patch.chdir(copy)
    return file


def with_other_rules(desk: Desk, file: Path) -> Path:
    """As the attempt could leave it: git does not look at its new file any more."""
    desk.repo.write(".git/info/exclude", "first.py\n")
    return file


def without_git(desk: Desk, file: Path) -> Path:
    shutil.rmtree(desk.repo.root / ".git")
    return file


LOST: tuple[Callable[[Desk, Path], Path], ...] = (
    without_objects,
    damaged,
    behind_a_link,
    on_another_branch,
    with_other_rules,
    without_git,
)
UNSEALED = (of_an_earlier_version, in_another_folder)
"""With a gate the seals of the checkpoint refuse it at once."""


@pytest.mark.parametrize(
    "lose",
    [pytest.param(each, marks=[] if each is without_objects else [pytest.mark.slow]) for each in LOST],
    ids=lambda each: each.__name__,
)
@pytest.mark.parametrize("second", [(edit("second.py", "more"),), ()], ids=["edits", "edits nothing"])
def test_what_cannot_be_shown_makes_the_review_incomplete(
    desk: Desk, temp: Path, lose: Callable[[Desk, Path], Path], second: tuple[str, ...]
) -> None:
    words = desk.fail(edit("first.py", "BACKDOOR"), edit("mine.py", "and the agent"))
    file = lose(desk, next(temp.glob("*.jsonl")))
    words[-1] = f"@{file}"
    done = desk.resume(words, *second)
    assert done.code == 4, done.err
    assert "the review will be incomplete: Aethr cannot show what the failed attempt" in done.err
    assert "what the failed attempt of step 'implement' changed" in str(review_of(done)["reason"])
    assert "changed what is not shown here: what the failed attempt" in desk.reviewed[0]
    assert "changed nothing" not in "".join(done.record["steps"][0]["notes"]) + desk.reviewed[0]
    assert "it may have changed more" in desk.prompt
    assert "first.py\nmine.py\n" in desk.prompt


@pytest.mark.slow
@pytest.mark.parametrize("lose", UNSEALED, ids=lambda each: each.__name__)
def test_an_unsealed_attempt_is_incomplete_even_without_a_gate(
    desk: Desk, temp: Path, lose: Callable[[Desk, Path], Path]
) -> None:
    words = desk.fail(edit("first.py", "BACKDOOR"), edit("mine.py", "and the agent"))
    words[-1] = f"@{lose(desk, next(temp.glob('*.jsonl')))}"
    assert desk.run(*words).code == 4
    done = desk.resume(["run", "--json", *words[-2:]], edit("second.py", "more"))
    assert (done.code, done.record["outcome"]) == (0, "incomplete"), done.err
    assert "the review will be incomplete: Aethr cannot show what the failed attempt" in done.err
    assert "changed what is not shown here: what the failed attempt" in desk.reviewed[0]
    assert "it may have changed more" in desk.prompt


def test_it_stays_incomplete_after_another_attempt_that_failed(desk: Desk, temp: Path) -> None:
    words = desk.fail(edit("mine.py", "BACKDOOR"))
    words[-1] = f"@{without_objects(desk, Path(words[-1][1:]))}"
    desk.agent(edit("second.py", "more"), ends="exit 7\n")
    again = desk.run(*words)
    assert again.code == 3
    done = desk.resume(resume_words(again.err), edit("third.py", "more"))
    assert done.code == 4, done.err
    assert "what the failed attempt of step 'implement' changed" in str(review_of(done)["reason"])


def test_a_commit_of_the_attempt_that_is_no_longer_checked_out(desk: Desk) -> None:
    desk.repo.commit("all of mine")
    commit = "git -c user.name=A -c user.email=a@b.invalid commit -qm x"
    script = ("git switch -qc topic", edit("first.py", "BACKDOOR"), "git add first.py", commit)
    words = desk.fail(*script)
    desk.repo.git("switch", "-q", "main")
    done = desk.resume(words, edit("second.py", "more"))
    assert done.code == 4, done.err
    assert "is not part of what is checked out now" in str(review_of(done)["reason"])


def test_a_review_of_another_change_stays_incomplete(desk: Desk, temp: Path) -> None:
    desk.uses(context="git_diff")
    desk.repo.git("add", "-A")
    desk.repo.commit("all of mine")
    words = desk.fail(edit("new.py", "BACKDOOR"))
    with_other_rules(desk, next(temp.glob("*.jsonl")))
    done = desk.resume(words)
    assert done.code == 4, done.err
    assert review_of(done)["status"] == "none"


def test_a_workflow_without_its_agent_step_is_incomplete(desk: Desk) -> None:
    words = desk.fail(edit("app.py", "BACKDOOR"))
    workflow = desk.repo.root / ".aethr.yaml"
    changed = workflow.read_text().replace(", backend: opencode", "").replace("latest_diff", '"file:app.py"')
    workflow.write_text(changed)
    done = desk.run(*words, answers=("Done.", PASS))
    assert done.code == 4, done.err
    reason = "what the failed attempt of step 'implement' changed was not reviewed"
    assert (review_of(done)["reason"], done.record["outcome"]) == (reason, "incomplete")


def test_the_text_of_a_checkpoint_has_no_objects_beside_it(desk: Desk) -> None:
    words = desk.fail(edit("mine.py", "BACKDOOR"))
    words[-1] = Path(words[-1][1:]).read_text()
    done = desk.resume(words, edit("second.py", "more"))
    assert done.code == 4, done.err


def test_what_is_lost_while_the_next_attempt_works(desk: Desk, temp: Path) -> None:
    words = desk.fail(edit("mine.py", "BACKDOOR"))
    done = desk.resume(words, f"rm -r '{temp}'/*.objects", edit("second.py", "more"))
    assert done.code == 4, done.err
    assert attempts.LOST in str(review_of(done)["reason"])
    assert "+more\n" in desk.reviewed[0]


# --- what the tree does not show ---

ON_ITS_OWN = "$(git -c user.name=A -c user.email=a@b.invalid commit-tree -m x HEAD^{tree})"
"""A commit that is on no branch."""

HIDDEN = {
    "rm build/o.js": "ignored by git: build/o.js",
    "rm mine.py; mkfifo mine.py": "mine.py (a FIFO)",
    "rm .git/hooks/pre-push": ".git/hooks/pre-push",
    "cp README.md r; echo x > README.md; git add README.md; mv r README.md": "not in the tree: README.md",
}
"""What a script does that is not in the diff, and a part of the line that says so."""

HIDDEN_TOO = {
    "echo x > build/new.o": "ignored by git: build/new.o",
    "echo x > build/o.js": "ignored by git: build/o.js",
    "rm -r build": "ignored by git: build/o.js, build/q.js",
    "mv build build2": "build2/q.js",
    "mkfifo pipe": "pipe (a FIFO)",
    "echo x > .git/hooks/post-commit": ".git/hooks/post-commit",
    "mv .git/hooks .git/off": ".git/hooks/pre-push",
    "git config alias.x '!evil'": ".git/config",
    f"git branch evil {ON_ITS_OWN}": "refs/heads/evil",
    f"git branch evil {ON_ITS_OWN}; git pack-refs --all": "refs/heads/evil",
    f"git branch -f other {ON_ITS_OWN}; git pack-refs --all": "refs/heads/other",
    f"git update-ref refs/stash {ON_ITS_OWN}": "the stash",
    "git rm -q --cached README.md": "not in the tree: README.md",
    "git init -q new; echo '*.x' > new/.gitignore; echo x > new/a.x": "new/a.x",
    "git init -q new; echo x > new/f; echo x > new/.git/hooks/post-commit": "new/.git/hooks/post-commit",
    "echo x > sub/s.py": "in another repository: sub/s.py",
    "rm -r sub/s.py": "in another repository: sub/s.py",
}

ORDINARY: dict[str, Callable[[Repo], object]] = {
    "true": lambda repo: repo.git("gc", "-q"),
    edit("a.py", "by the agent"): lambda repo: repo.git("add", "a.py"),
    "mkdir __pycache__; echo x > __pycache__/a.pyc; git status": lambda repo: repo.git("pack-refs", "--all"),
}
"""What a script does that hides nothing, and what the user does next."""


def slow(cases: dict[str, str]) -> list[object]:
    return [pytest.param(*each, marks=pytest.mark.slow) for each in cases.items()]


@pytest.fixture
def blind(desk: Desk) -> Desk:
    """With ignored files, staged content that is not in the tree, a hook, a branch, a repository inside."""
    repo = desk.repo
    repo.write(".gitignore", "build*/\n__pycache__/\n*.swp\n")
    repo.git("add", ".gitignore")
    repo.git("commit", "-qm", "what to ignore", ".gitignore")
    repo.write("app.py", "staged\n")
    repo.git("add", "app.py")
    for name in ("app.py", "build/o.js", "build/q.js", ".git/hooks/pre-push"):
        repo.write(name, "mine, before\n")
    repo.git("branch", "other")
    inside = make_repo(repo.root / "sub")
    inside.write("s.py")
    inside.commit()
    return desk


@pytest.mark.parametrize(("script", "line"), [*HIDDEN.items(), *slow(HIDDEN_TOO)])
def test_what_a_failed_attempt_hid_makes_the_review_incomplete(blind: Desk, script: str, line: str) -> None:
    done = blind.resume(blind.fail(script), edit("second.py", "more"))
    assert done.code == 4, done.err
    assert "the failed attempt of step 'implement' left what Aethr cannot show" in done.err
    assert all(line in each for each in (done.err, str(review_of(done)["reason"]), blind.prompt))


@pytest.mark.slow
@pytest.mark.parametrize("script", [*HIDDEN, *HIDDEN_TOO])
def test_what_the_first_of_two_failed_attempts_hid(blind: Desk, script: str) -> None:
    words = blind.fail(script)
    blind.agent(edit("second.py", "more"), ends="exit 7\n")
    done = blind.resume(resume_words(blind.run(*words).err))
    assert (done.code, blind.reviewed[0].count("+more\n")) == (4, 1), done.err


@pytest.mark.parametrize(
    "script", [next(iter(HIDDEN)), *(pytest.param(n, marks=pytest.mark.slow) for n in HIDDEN_TOO)]
)
def test_what_was_hidden_counts_without_an_agent_step_too(blind: Desk, script: str) -> None:
    words = blind.fail(script)
    workflow = (blind.repo.root / ".aethr.yaml").read_text()
    other = blind.repo.root / "other.swp"  # as a file of tools it is not an edit of its own
    other.write_text(workflow.replace(", backend: opencode", "").replace("latest_diff", '"file:app.py"'))
    done = blind.run(*words, "--config", str(other), answers=("Done.", PASS))
    assert (done.code, done.out != "") == (4, True), done.err
    assert "changed was not reviewed" in str(review_of(done)["reason"])


@pytest.mark.parametrize("script", ORDINARY)
def test_nothing_is_hidden_by_ordinary_work(blind: Desk, script: str) -> None:
    words = blind.fail(script)
    ORDINARY[script](blind.repo)
    done = blind.resume(words, edit("second.py", "more"))
    assert done.code == 0, done.err
    assert "cannot show" not in done.err


def test_what_was_kept_of_hidden_files_cannot_be_forged(blind: Desk, temp: Path) -> None:
    """git reads an object whatever its content: the agent could write there what it likes."""
    words = blind.fail("rm build/o.js")
    saved = checkpoint.load(words[-1])
    assert saved.attempt is not None
    assert saved.attempt.baseline is not None
    name = saved.attempt.baseline.blind
    (file,) = temp.glob(f"*.objects/{name[:2]}/{name[2:]}")
    content = json.loads(zlib.decompress(file.read_bytes()).partition(b"\0")[2])
    del content["files"]["build/o.js"]
    text = json.dumps(content).encode()
    file.chmod(0o600)
    file.write_bytes(zlib.compress(b"blob %d\0%b" % (len(text), text)))
    done = blind.resume(words, edit("second.py", "more"))
    assert done.code == 4, done.err
    assert attempts.LOST in str(review_of(done)["reason"])


# --- what is kept ---


def test_the_smallest_objects_are_kept_up_to_the_limit(tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    for name, size in (
        ("aa/tree", 100),
        ("bb/small", 5000),
        ("cc/large", attempts.LIMIT - 8000),
        ("dd/huge", 1 << 40),
    ):
        each = tmp_path / "objects" / name
        each.parent.mkdir(parents=True)
        each.touch()
        os.truncate(each, size)
    attempts.keep(file, tmp_path / "objects")
    folder = attempts.find(file)
    assert folder is not None
    assert sorted(each.name for each in folder.glob("*/*")) == ["small", "tree"]
    attempts.discard(file)
    assert attempts.find(file) is None


def test_only_its_own_objects_are_removed_or_read(tmp_path: Path) -> None:
    file, folder = tmp_path / "run.jsonl", tmp_path / "run.jsonl.objects"
    objects = tmp_path / "objects"
    (objects / "ab").mkdir(parents=True)
    (objects / "ab" / "cd").write_bytes(b"x")
    victim = tmp_path / "victim"
    victim.mkdir()
    folder.symlink_to(victim)
    attempts.keep(file, objects)
    attempts.discard(file)
    assert (attempts.find(file), list(victim.iterdir()), folder.is_symlink()) == (None, [], True)
    folder.unlink()
    folder.mkdir()
    (folder / "notes.txt").write_text("of the user")
    attempts.keep(file, objects)
    attempts.discard(file)
    assert [each.name for each in folder.iterdir()] == ["notes.txt"]


def test_a_checkpoint_with_a_malformed_attempt_is_refused(desk: Desk) -> None:
    words = desk.fail(edit("first.py", "BACKDOOR"))
    file = Path(words[-1][1:])
    for value in (1, {}, {"step": "a", "iteration": 0}, {"step": "a", "iteration": 1, "baseline": []}):
        lines = file.read_text().splitlines()
        lines[1] = json.dumps({"attempt": value})
        wrong = file.with_name("wrong.jsonl")
        wrong.write_text("\n".join(lines))
        done = desk.run(*words[:-1], f"@{wrong}")
        assert done.code == 2
        assert "not a checkpoint of this Aethr" in done.err


# --- the same with each real program ---

MODELS = {"opencode": "fake:model", "claude": "anthropic:claude-sonnet-4-5", "codex": "openai:gpt-5.5"}


def written(agent: str, file: Path, line: str) -> Call:
    """The tool call by which a model has this agent make a file."""
    if agent == "codex":
        return Call("apply_patch", f"*** Begin Patch\n*** Add File: {file}\n+{line}\n*** End Patch\n")
    path = {"claude": "file_path", "opencode": "filePath"}[agent]
    return Call({"claude": "Write", "opencode": "write"}[agent], {path: str(file), "content": f"{line}\n"})


@nightly("minutes with real agents")
@pytest.mark.slow
@pytest.mark.parametrize("agent", sorted(MODELS))
def test_a_real_agent(aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch, agent: str) -> None:
    if shutil.which(agent) is None:
        pytest.skip(f"{agent} is not on PATH ({DIALECTS[agent].agent.install})")
    words = {"agent": agent, "model": MODELS[agent], "context": "latest_diff", "repeat": ""}
    reviewer = "openrouter:openai/gpt-4o-mini"
    workflow = WORKFLOW.format_map(words).replace('reviewer: "openai:gpt-4o-mini"', f'reviewer: "{reviewer}"')
    project.write(".aethr.yaml", workflow)
    first = written(agent, project.root / "app_first.py", "BACKDOOR")
    second = written(agent, project.root / "second.py", "more")

    def run(words: list[str], turns: tuple[Turn, ...]) -> tuple[Done, list[str], str]:
        with serving(monkeypatch, text(PASS)) as reviews, serving_tools(*turns) as model:
            for name, value in environment(model).items():
                if name.startswith("OPENCODE_"):
                    monkeypatch.setenv(name, value)
            monkeypatch.setenv("ANTHROPIC_BASE_URL", model.origin)
            monkeypatch.setenv("OPENAI_BASE_URL", model.base_url)
            done = aethr(*words)
            return done, [body["messages"][-1]["content"] for body in reviews.bodies], model.prompts

    failed, *_ = run(["run", *GATE, "do it"], (first, *[Fault(400)] * 20))
    assert failed.code == 3, failed.err
    assert "files changed before it failed: app_first.py" in failed.err
    done, reviewed, prompts = run(resume_words(failed.err), (second, "All done."))
    assert done.code == 0, done.err
    assert all(line in reviewed[0] for line in ("+BACKDOOR\n", "+more\n"))
    assert "An attempt of this step before yours did not finish" in prompts


# --- a gate that the stopped run did not have ---


@pytest.mark.parametrize(
    ("context", "before", "more", "code"),
    [
        ("git_diff", (), ("--fail-on", "high"), 4),
        ("git_diff", ("--fail-on", "high"), (), 4),
        ("git_diff", (), (), 0),
        ("git_diff", ("--diff", "head"), ("--fail-on", "high"), 4),
        ("latest_diff", (), ("--fail-on", "high"), 0),
    ],
)
def test_a_review_without_a_gate_did_not_check_what_the_scope_leaves_out(
    desk: Desk, context: str, before: tuple[str, ...], more: tuple[str, ...], code: int
) -> None:
    """A file that git does not know is in no diff; only with a gate that makes a review of it incomplete."""
    desk.uses(context=context)
    workflow = (desk.repo.root / ".aethr.yaml").read_text(encoding="utf-8")
    workflow = workflow.replace('"Review."}', '"Review.", teller: "Tell."}')
    workflow = workflow.replace('4o-mini"}', '4o-mini", teller: "openai:gpt-4o-mini"}')
    desk.repo.write(".aethr.yaml", workflow + "  - {id: tell, role: teller}\n")
    desk.repo.git("commit", "-qm", "a step more", ".aethr.yaml")
    desk.agent(edit("app.py", "by the agent"))
    with serving(desk.patch, text(PASS), error(401, "no")):
        stopped = desk.aethr("run", *before, "look")
    done = desk.run(*resume_words(stopped.err), *more, answers=("Told.",))
    assert (stopped.code, done.code) == (3, code), done.err
    if more and code:
        assert "step 'review' ran without a gate, so it did not check what the scope leaves out" in done.err
        assert desk.reviewed == []
