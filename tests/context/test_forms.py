"""The forms of ``git_diff``, and the line numbers in front of a reviewed change."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from aethr import git
from aethr.base.records import Artifacts, Block, Repeat, Scope, StepResult, StepSpec, View
from aethr.base.sanitize import reveal
from aethr.config import workflow_file
from aethr.context import Reader, collect, quotes
from aethr.context.diffs import Hunk, Section, narrow, number, parse, without_numbers
from aethr.workflow.planning import vocabulary
from tests.context.test_parts import FORMS, changed_repo
from tests.support import Repo, leave_a_conflict, without_gutter

SEEDS = [pytest.param(seed, marks=pytest.mark.slow if seed >= 2 else ()) for seed in range(20)]
WIDE = (["-U4"], ["-U7"], ["-U50"], ["-U1000"], ["--function-context"])


def diff(repo: Repo, *words: str) -> bytes:
    command = ["git", "diff", "--no-ext-diff", *words]
    return subprocess.run(command, cwd=repo.root, capture_output=True, check=True).stdout


def one(repo: Repo, source: str, budget: int = 120_000, scope: str = "worktree", **view: bool) -> Block:
    (block,) = collect((source,), budget, View(repo.root, git.resolve_scope(repo.root, scope), **view))  # type: ignore[arg-type]
    return block


def read(repo: Repo, source: str, room: int, most: int = 16, agent: bool = False) -> list[Block]:
    """The blocks of all parts in a workflow with one reviewing step."""
    step = StepSpec("review", "reviewer", room, (source,))
    reader = Reader([step], ["review"] if agent else [], most)
    return [block for part in reader.collect(step, View(repo.root, Scope())).parts for block in part]


# --- what git prints -----------------------------------------------------------------------------


@pytest.fixture
def changed(repo: Repo) -> Repo:
    """A commit, and every kind of change that is text."""
    repo.write("a.c", "int first(void)\n{\n" + "\tone();\n" * 20 + "\treturn 1;\n}\n\nint second;\n")
    repo.write("crlf.txt", b"a\r\n" * 20 + b"end\r\n")
    repo.write("old.txt", "".join(f"line {n}\n" for n in range(30)))
    repo.write("run.sh", "x\n" * 20)
    repo.write("gone.py", "x\n")
    repo.write("end.txt", "x\n" * 9 + "no newline")
    repo.commit()
    repo.write("a.c", "int first(void)\n{\n" + "\tone();\n" * 20 + "\treturn 2;\n}\n\nint second;\n")
    repo.write("crlf.txt", b"a\r\n" * 20 + b"END\r\n")
    (repo.root / "old.txt").rename(repo.root / "new.txt")
    repo.write("new.txt", "".join(f"line {n}\n" for n in range(29)) + "last\n")
    repo.write("run.sh", "x\n" * 10 + "y\n" + "x\n" * 10)
    (repo.root / "run.sh").chmod(0o755)
    (repo.root / "gone.py").unlink()
    repo.write("end.txt", "y\n" + "x\n" * 8 + "no newline")
    repo.write("added.txt", "1\n2\n")
    return repo


@pytest.mark.parametrize("source", [*FORMS, "git_diff:3", "git_diff:1000"])
@pytest.mark.parametrize("scope", ["worktree", "staged", "head", "all", "HEAD~1..HEAD"])
def test_a_form_is_byte_for_byte_what_git_prints(changed: Repo, source: str, scope: str) -> None:
    if scope != "worktree":
        changed.git("add", "-A")
    if ".." in scope:
        changed.commit()
    words = {"worktree": [], "staged": ["--cached"]}.get(
        scope, ["HEAD~1", "HEAD"] if ".." in scope else ["HEAD"]
    )
    form = FORMS.get(source, [f"-U{source.partition(':')[2]}"])
    of_git = diff(changed, *form, *words).decode()
    block = one(changed, source, scope=scope)
    assert block.text.startswith(of_git)
    assert re.fullmatch(r"(\[not part of this diff .*\]\n)?", block.text[len(of_git) :])
    assert {each.source for each in block.receipts} == {source}
    assert all(each.changed_lines == each.sent_lines for each in block.receipts)
    assert without_gutter(one(changed, source, scope=scope, numbered=True).text) == block.text


@pytest.mark.parametrize("source", FORMS)
def test_every_form_shows_hidden_text_and_names_an_unfinished_merge(repo: Repo, source: str) -> None:
    repo.write(".gitattributes", "hidden.txt -diff\n")
    repo.write("hidden.txt", "x\n" * 20)
    leave_a_conflict(repo)
    repo.write("hidden.txt", "x\n" * 20 + "y\n")
    block = one(repo, source, numbered=True)
    assert "\n21 +y\n" in block.text
    assert [each.note for each in block.receipts if each.path and not each.complete] == ["unmerged"]
    assert "\n@@@ -1," in block.text
    assert "\n++<<<<<<<" in block.text


def test_a_pointer_is_named_without_context_too(repo: Repo) -> None:
    lines = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n"
    repo.write("model.bin", lines.format("0" * 64, 9))
    repo.commit()
    repo.write("model.bin", lines.format("1" * 64, 10))
    for source in FORMS:
        (receipt,) = one(repo, source).receipts
        assert (receipt.complete, receipt.sent_lines) == (False, 0), source
        assert receipt.note == "a git-lfs pointer; the file itself is not shown"


# --- more context never takes the place of the change ----------------------------------------------


def without_function(event: Section | Hunk) -> object:
    if isinstance(event, Section):
        return event
    assert event.text is not None
    head, _, body = event.text.partition(b"\n")
    return (
        head.split(b" @@")[0],
        body,
        event.size == len(event.text),
        event.changed,
        event.added,
        event.nul,
        event.lines,
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_a_narrowed_hunk_is_the_hunks_that_git_prints(tmp_path: Path, seed: int) -> None:
    repo = changed_repo(tmp_path / "r", seed)
    plain = [without_function(event) for event in parse([diff(repo, "--cached")], 1 << 30)]
    for words in WIDE:
        found: list[object] = []
        for event in parse([diff(repo, "--cached", *words)], 1 << 30):
            found += map(without_function, [event] if isinstance(event, Section) else narrow(event))
        assert found == plain, words


def long_function(repo: Repo, lines: int = 400) -> None:
    """A function whose first and last line change."""
    body = [f"    x{n} = {n}\n" for n in range(lines)]
    repo.write("a.py", "".join(["def f():\n", *body]))
    repo.commit()
    body[0], body[-1] = "    first = 1\n", "    last = 1\n"
    repo.write("a.py", "".join(["def f():\n", *body]))


@pytest.mark.parametrize("source", ["git_diff:function", "git_diff:1000"])
def test_a_hunk_that_does_not_fit_is_narrowed_before_it_is_cut(repo: Repo, source: str) -> None:
    long_function(repo)
    repo.write("b.py", "def g():\n    return 1\n")
    repo.git("add", "-AN")
    (block,) = read(repo, source, 2_000)
    assert "with three lines" not in block.text
    shown = without_gutter(block.text)
    assert re.sub("@@ .*\n", "@@\n", shown) == re.sub("@@ .*\n", "@@\n", diff(repo).decode())
    assert sum(each.sent_lines for each in block.receipts) == 6
    assert all(each.complete for each in block.receipts)
    assert len(read(repo, source, 20_000)[0].text) > 8_000


def test_context_that_is_not_text_does_not_withhold_the_change(repo: Repo) -> None:
    repo.write("a.py", "x = 1\n" + "y = 2\n" * 30 + "# caf\xe9\n".encode("latin-1").decode("latin-1"))
    (repo.root / "a.py").write_bytes(b"x = 1\n" + b"y = 2\n" * 30 + b"# caf\xe9\n")
    repo.commit()
    (repo.root / "a.py").write_bytes(b"x = 3\n" + b"y = 2\n" * 30 + b"# caf\xe9\n")
    (receipt,) = one(repo, "git_diff:50").receipts
    assert (receipt.complete, receipt.sent_lines, receipt.note) == (True, 2, None)


def many_functions(repo: Repo) -> None:
    for n in range(12):
        repo.write(f"m{n}.py", f"def f{n}():\n" + "    pass\n" * 60)
    repo.commit()
    for n in range(12):
        repo.write(f"m{n}.py", f"def f{n}():\n" + "    pass\n" * 59 + f"    return {n}\n")


@pytest.mark.parametrize("source", ["git_diff:function", "git_diff:100"])
@pytest.mark.parametrize("agent", [False, True], ids=["parts", "agent"])
def test_a_change_that_does_not_fit_is_shown_with_three_lines(repo: Repo, source: str, agent: bool) -> None:
    many_functions(repo)
    blocks = read(repo, source, 4_000, most=1, agent=agent)
    (block,) = blocks
    remark = f"the change does not fit with {source}, so it is shown with three lines of context"
    assert without_gutter(block.text) == diff(repo).decode() + f"[{remark}]\n"
    assert [each.note for each in block.receipts if each.path is None] == [remark]
    assert all(each.complete for each in block.receipts)
    roomy = read(repo, source, 4_000, most=16) if not agent else read(repo, source, 40_000, agent=True)
    assert without_gutter("".join(each.text for each in roomy)) == diff(repo, "-W").decode()


def test_a_hunk_over_the_maximum_is_shown_with_three_lines(repo: Repo) -> None:
    line = "x" * 200 + "\n"
    repo.write("large.txt", "y\n" + line * 45_000)
    repo.commit()
    repo.write("large.txt", "z\n" + line * 45_000)
    block = one(repo, "git_diff:function")
    assert block.text.startswith(diff(repo).decode())
    assert all(each.complete for each in block.receipts)


def test_fewer_lines_than_three_are_never_made_more(repo: Repo) -> None:
    many_functions(repo)
    (block,) = collect(("git_diff:0",), 1_500, View(repo.root, Scope()))
    assert "three lines" not in block.text
    assert not re.search("^ ", block.text, re.MULTILINE)


# --- line numbers --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_numbers_are_removed_exactly(tmp_path: Path, seed: int) -> None:
    repo = changed_repo(tmp_path / "r", seed)
    numbered = 0
    for words in (["-U0"], [], ["-W"]):
        for event in parse([diff(repo, "--cached", *words)], 1 << 30):
            if isinstance(event, Hunk):
                assert event.text is not None
                hunk, _ = reveal(event.text.decode())
                shown = number(hunk)
                assert without_numbers(shown) == hunk == without_numbers(hunk)
                assert (shown != hunk) == (event.lines is not None)
                assert list(quotes.read(shown)) == list(quotes.read(hunk))
                numbered += shown != hunk
    assert numbered > 10


HUNK = """\
@@ -8,4 +8,4 @@ def f():
 a
-    1  b
+    1  c
 9 d
\\ No newline at end of file
"""
NUMBERED = """\
@@ -8,4 +8,4 @@ def f():
 8  a
   -    1  b
 9 +    1  c
10  9 d
   \\ No newline at end of file
"""


def test_the_numbers_are_those_of_the_new_side() -> None:
    hunk, shown = HUNK.replace("8,4", "8,3"), NUMBERED.replace("8,4", "8,3")
    assert number(hunk) == shown
    assert without_numbers(shown) == hunk


@pytest.mark.parametrize(
    "text",
    [
        HUNK,  # with another number of lines than it says
        "@@ -1 +0,0 @@\n-x\n",
        "@@@ -1,1 -1,1 +1,1 @@@\n++x\n",
        "1 x\n2 y\n",
        "@@ -1 +1 @@\n1 x\n",
        "@@ -1 +99999999999999999999 @@\n+x\n",
        "",
    ],
)
def test_what_cannot_be_numbered_stays_as_it_is(text: str) -> None:
    assert number(text) == text == without_numbers(text)


def test_only_a_workflow_with_a_reviewing_step_has_numbers(changed: Repo) -> None:
    think, review = StepSpec("t", "t", 9_000, ("git_diff",)), StepSpec("r", "reviewer", 9_000)
    by_loop = StepSpec("r", "judge", 9_000, repeat=Repeat("r", 2, until_review_pass=True))
    view = View(changed.root, Scope())
    [[plain]] = Reader([think], (), 16).collect(think, view).parts
    assert plain.text.startswith(diff(changed).decode())
    for reviewing in (review, by_loop):
        [[block]] = Reader([think, reviewing], (), 16).collect(think, view).parts
        assert "\n23 +\treturn 2;\n" in block.text
        assert without_gutter(block.text) == plain.text
        sent = [each for each in block.receipts if each.path]
        assert sum(each.bytes_sent for each in sent) == len(block.text.partition("[not part")[0].encode())


def test_an_agents_change_has_numbers(tmp_path: Path) -> None:
    text = "diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1 +1,2 @@\n a\n+b\n"
    edit = StepResult("e", "e", "opencode", None, 1, "", "", artifacts=Artifacts(("a",), "", text))
    (block,) = collect(("latest_diff",), 900, View(tmp_path, Scope(), (edit,), numbered=True))
    assert block.text.endswith("@@ -1 +1,2 @@\n1  a\n2 +b\n")
    found = quotes.find([block], "a\nb")
    assert found is not None
    assert (found.path, found.line, found.end_line) == ("a", 1, 2)


# --- what a workflow may say -----------------------------------------------------------------------


@pytest.mark.parametrize("form", ["HEAD", "1001", "-1", "007", "²", "1.5", "Function", "functions"])
def test_another_form_is_refused_with_its_place(form: str) -> None:
    text = f"workflow: w\nroles: {{r: x}}\nsteps:\n  - id: a\n    role: r\n    context: ['git_diff:{form}']\n"
    with pytest.raises(
        Exception, match=r"w\.yaml:6:15: .* is neither a number of lines from 0 to 1000 nor 'function'"
    ):
        workflow_file.parse(text, "w.yaml", vocabulary())


def test_an_empty_form_is_refused() -> None:
    source = workflow_file.context_source(vocabulary())
    assert workflow_file.problem_of(source, "git_diff:") == (
        "'git_diff:' has no argument; write 'git_diff' or 'git_diff:…'"
    )
    pattern = re.compile(source.limits["pattern"])
    for form in ("git_diff", "git_diff:0", "git_diff:1000", "git_diff:function"):
        assert pattern.search(form)
        assert workflow_file.problem_of(source, form) == ""
    for form in ("git_diff:", "git_diff:1001", "git_diff:HEAD", "git_diff:functions"):
        assert not pattern.search(form)


# --- causes outside of the plain hunk --------------------------------------------------------------


def test_a_cause_in_the_same_function_is_in_the_prompt(repo: Repo) -> None:
    """The lock is released early; the new line at the end writes without it."""
    before = "def save(path):\n    lock.acquire()\n    lock.release()\n" + "    log()\n" * 12 + "    done()\n"
    repo.write("store.py", "import x\n\n\n" + before)
    repo.commit()
    repo.write("store.py", "import x\n\n\n" + before + "    path.write(state)\n")
    assert "lock.release()" not in one(repo, "git_diff").text
    assert "\n 6      lock.release()\n" in one(repo, "git_diff:function", numbered=True).text


def test_a_cause_above_the_function_is_in_the_prompt(repo: Repo) -> None:
    """The unit of a constant outside of every function makes the new line wrong."""
    before = (
        "TIMEOUT = 30_000  # milliseconds\n\n\ndef other():\n    poll()\n\n\ndef wait():\n"
        + "    poll()\n" * 5
    )
    repo.write("wait.py", before + "    sleep(1)\n")
    repo.commit()
    repo.write("wait.py", before + "    sleep(TIMEOUT)\n")
    assert "milliseconds" not in one(repo, "git_diff").text
    assert "milliseconds" not in one(repo, "git_diff:function").text
    assert "\n 1  TIMEOUT = 30_000  # milliseconds\n" in one(repo, "git_diff:20", numbered=True).text
