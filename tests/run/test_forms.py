"""A workflow with ``git_diff:function`` in every place where a run asks what its change is."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.live import Aethr, aethr, project, temp
from tests.model_server import ModelServer, Reply
from tests.support import Repo, without_gutter

__all__ = ["aethr", "project", "temp"]

TASK = "review my changes"
PASS = "Fine.\n\nReview status: pass"
HEAD = """\
workflow: wide
roles: {reviewer: "Review.", second: "Think."}
models: {reviewer: "openai:gpt-4o-mini", second: "openai:gpt-4o-mini"}
limits: {context_chars: CHARS, parts: 16}
steps:
"""
REVIEW = "  - {id: review, role: reviewer, context: ['git_diff:function']}\n"
SECOND = "  - {id: again, role: second, context: [git_diff]}\n"


def workflow(*steps: str, chars: int = 120_000) -> str:
    return HEAD.replace("CHARS", str(chars)) + "".join(steps)


@pytest.fixture
def server(project: Repo, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Six files with a long function each, whose last line changed, and a lock file; staged."""
    project.git("restore", ".")
    project.write(".aethr.yaml", workflow(REVIEW))
    body = "def f():\n" + "    pass\n" * 30
    for n in range(6):
        project.write(f"m{n}.py", body)
    project.write("package-lock.json", "{}\n")
    project.commit()
    for n in range(6):
        project.write(f"m{n}.py", body + f"    return {n}\n")
    project.write("package-lock.json", "[]\n")
    project.git("add", "-A")
    with ModelServer(lambda _: Reply((PASS,), usage=(900, 9))) as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
        monkeypatch.setenv("AETHR_LIVE", "1")
        yield running


def prompts(server: ModelServer) -> list[str]:
    return [body["messages"][0]["content"] for body in server.bodies]


def blocks(server: ModelServer) -> list[str]:
    """The diff in each prompt, as git prints it."""
    block = re.compile(r"^<<<(\w+) git_diff\S*\n(.*?)^\1>>>", re.MULTILINE | re.DOTALL)
    return [without_gutter(each[2]) for prompt in prompts(server) for each in block.finditer(prompt)]


@pytest.mark.parametrize("command", ["run", "hook"])
def test_run_and_hook_review_whole_functions(
    aethr: Aethr, project: Repo, server: ModelServer, command: str
) -> None:
    words = ("run", "--diff", "staged", "--fail-on", "high", TASK) if command == "run" else ("hook",)
    done = aethr(*words)
    assert done.code == 0, done.err
    of_git = project.git("diff", "--cached", "-W", "--", "*.py")
    assert blocks(server) == [of_git + "[excluded by rule: package-lock.json, 2 changed lines, lock file]\n"]
    assert "pass; excluded by rule: package-lock.json (+1 -1)" in done.out + done.err
    assert "A number in front of a line of code is its line" in prompts(server)[0]


def test_show_prompt_and_record_say_what_was_sent(aethr: Aethr, project: Repo, server: ModelServer) -> None:
    shown = aethr("run", "--diff", "staged", "--show-prompt", TASK)
    assert server.bodies == []
    record = aethr("run", "--diff", "staged", "--json", TASK).record
    assert prompts(server)[0].rstrip("\n") in shown.out
    assert (record["outcome"], record["review"]["coverage"]) == ("pass", 1.0)
    assert {each["source"] for each in record["steps"][0]["context"]} == {"git_diff:function"}
    assert [record["change"][key] for key in ("files", "added", "removed")] == [7, 7, 1]
    assert [each["path"] for each in record["excluded"]] == ["package-lock.json"]


def test_check_estimates_and_lists_what_is_excluded(aethr: Aethr, project: Repo, server: ModelServer) -> None:
    said = aethr("check").out
    assert "excluded by rule: package-lock.json" in said
    project.write(".aethr.yaml", workflow("  - {id: a, role: reviewer, context: ['git_diff:all']}\n"))
    done = aethr("check")
    assert done.code == 2
    assert ".aethr.yaml:6:39: 'all' is neither a number of lines from 0 to 1000" in done.err


def test_an_empty_change_calls_nothing(aethr: Aethr, project: Repo, server: ModelServer) -> None:
    project.git("reset", "-q", "--hard")
    done = aethr("run", "--fail-on", "high", TASK)
    assert (done.code, server.bodies) == (0, [])


def test_a_context_of_the_command_line_may_have_a_form(
    aethr: Aethr, project: Repo, server: ModelServer
) -> None:
    assert aethr("run", "--diff", "staged", "--context", "git_diff:0", TASK).code == 0
    assert project.git("diff", "--cached", "-U0", "--", "*.py") in blocks(server)[0]
    done = aethr("run", "--context", "git_diff:x", TASK)
    assert (done.code, "'x' is neither a number of lines" in done.err) == (2, True)


def test_each_form_is_cut_by_itself(aethr: Aethr, project: Repo, server: ModelServer) -> None:
    project.write(".aethr.yaml", workflow(REVIEW, SECOND, chars=1_600))
    done = aethr("run", "--diff", "staged", "--json", "--jobs", "1", TASK)
    steps = done.record["steps"]
    wide, plain = (sum(each["id"] == name for each in steps) for name in ("review", "again"))
    assert wide > plain > 0
    joined = re.sub(r"\[.*\]\n", "", "".join(blocks(server)[:wide]))
    assert joined == project.git("diff", "--cached", "-W", "--", "*.py")
    seen = re.findall(r"^<<<\w+ review \(reviewer\), pass 1, part", prompts(server)[-1], re.MULTILINE)
    assert len(seen) == wide  # its part is not one of theirs


def test_the_form_that_needs_the_most_parts_counts_before_the_first_call(
    aethr: Aethr, project: Repo, server: ModelServer
) -> None:
    small = SECOND.replace("]}", "], limits: {context_chars: 300}}")
    project.write(".aethr.yaml", workflow(REVIEW, small).replace("parts: 16", "parts: 2"))
    done = aethr("run", "--diff", "staged", "--fail-on", "high", TASK)
    assert (done.code, server.bodies) == (4, [])
    assert re.search(r"the change needs [3-9] parts, and limits.parts allows 2", done.err)


def test_shards_read_one_form(aethr: Aethr, project: Repo, server: ModelServer) -> None:
    project.write(".aethr.yaml", workflow(REVIEW, chars=1_600))
    files = [f"shard-{number}.json" for number in (1, 2)]
    for number, file in enumerate(files, 1):
        words = ("--diff", "staged", "--shard", f"{number}/2", "--report", file)
        assert aethr("run", *words, TASK).code == 0
    done = aethr("merge", *files, "--json", "--fail-on", "high")
    assert (done.code, done.record["outcome"]) == (0, "pass")
    project.write(".aethr.yaml", workflow(REVIEW, SECOND, chars=1_600))
    done = aethr("run", "--diff", "staged", "--shard", "1/2", TASK)
    assert done.code == 2
    assert "step 'again' needs all parts of the change" in done.err


def test_a_resume_compares_the_form(
    aethr: Aethr, project: Repo, server: ModelServer, temp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(".aethr.yaml", workflow(REVIEW, SECOND))
    refused = Reply(status=401, body='{"error": {"message": "no"}}')
    with ModelServer([Reply((PASS,)), refused]) as broken:
        monkeypatch.setenv("OPENAI_BASE_URL", broken.base_url)
        done = aethr("run", "--diff", "staged", "--fail-on", "high", TASK)
    assert done.code == 3, done.err
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    found = re.search(r"--resume-checkpoint (\S+)", done.err)
    assert found
    words = ("run", "--diff", "staged", "--fail-on", "high", "--resume-checkpoint", found[1].strip("'"), TASK)
    project.write("m0.py", "def f():\n    pass\n")
    project.git("add", "m0.py")
    moved = aethr(*words)
    assert (moved.code, server.bodies) == (4, []), moved.err
    project.write("m0.py", "def f():\n" + "    pass\n" * 30 + "    return 0\n")
    project.git("add", "m0.py")
    again = aethr(*words)
    assert (again.code, len(server.bodies)) == (0, 1), again.err
