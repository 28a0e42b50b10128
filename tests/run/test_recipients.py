"""Who saw what: the hosts and agents that prompts went to, through the real command line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from aethr.base.records import Sent, StepResult
from aethr.output.markdown import recipients_table
from aethr.output.recipients import find_recipients
from tests.agents.test_failed_attempts import Desk, desk
from tests.live import PASS, REVISE, TASK, TWO_STEPS, Aethr, aethr, project, resume_words, serving, temp
from tests.model_server import error
from tests.output.test_report import RESULT
from tests.run.test_fallback import BUSY, FIRST, SECOND, WORKFLOW, by_model
from tests.run.test_shards import answer, merged, server, shards, wide
from tests.support import Repo

__all__ = ["aethr", "desk", "project", "server", "temp", "wide"]

ONE = f"""\
workflow: one
roles: {{reviewer: "Review."}}
models: {{reviewer: "{FIRST}"}}
steps:
  - {{id: review, role: reviewer, context: [git_diff]}}
"""


def seen(record: dict[str, Any]) -> list[tuple[str | None, str, int, int]]:
    """Host, model, calls, and those of them that an earlier run made."""
    return [
        (each["host"], each["model"], each["calls"], each["earlier_calls"]) for each in record["recipients"]
    ]


def host_of(origin: str) -> str:
    return origin.removeprefix("http://")


def test_the_record_counts_files_bytes_and_calls_by_host(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(".aethr.yaml", TWO_STEPS)
    project.write("secret.pem", "x")
    project.git("add", "-N", "secret.pem")
    with serving(monkeypatch, "thought", PASS) as server:
        record = aethr("run", "--json", TASK).record
    sent = [body["messages"][-1]["content"] for body in server.bodies]
    assert record["recipients"] == [
        {
            "host": host_of(server.origin),
            "model": "openai:gpt-4o-mini",
            "agent": None,
            "calls": 2,
            "earlier_calls": 0,
            "bytes_sent": sum(len(each.encode()) for each in sent),
            "files": ["app.py"],
        }
    ]


@pytest.mark.parametrize("words", [(), ("-v",), ("--quiet",)])
def test_only_a_verbose_run_says_who_saw_what_on_the_terminal(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    project.write(".aethr.yaml", ONE)
    with serving(monkeypatch, PASS) as server:
        out = aethr("run", *words, TASK).out
    size = len(server.bodies[0]["messages"][-1]["content"].encode())
    line = f"note: sent to {host_of(server.origin)}: {FIRST}: 1 file, {size:,} bytes of prompts, calls: 1\n"
    assert (line in out) == (words == ("-v",)), out


def test_a_verbose_mock_sends_nothing(aethr: Aethr, project: Repo) -> None:
    project.write(".aethr.yaml", ONE)
    done = aethr("run", "-v", TASK)
    assert (done.code, "sha256" in done.out, "sent to" in done.out) == (0, True, False), done.out


def test_retries_and_the_question_for_a_verdict_count(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(".aethr.yaml", ONE)
    with serving(monkeypatch, BUSY, "no verdict here", PASS) as server:
        record = aethr("run", "--json", TASK).record
    assert seen(record) == [(host_of(server.origin), FIRST, 3, 0)]
    sent = [body["messages"][-1]["content"] for body in server.bodies]
    assert record["recipients"][0]["bytes_sent"] == sum(len(each.encode()) for each in sent)


def test_a_fallback_and_the_model_before_it_both_saw_the_prompt(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(".aethr.yaml", WORKFLOW)
    with serving(monkeypatch, always=by_model(gpt=error(503, "no", Retry_After="0"), grok=PASS)) as server:
        record = aethr("run", "--json", TASK).record
    calls = [body["model"] for body in server.bodies]
    host = host_of(server.origin)
    first, second = (sum(each in name for each in calls for name in [model]) for model in (FIRST, SECOND))
    assert seen(record) == [(host, FIRST, first, 0), (host, SECOND, second, 0)]
    assert (first, second) == (3, 1)


def test_a_call_that_stopped_the_run_was_sent_all_the_same(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(".aethr.yaml", TWO_STEPS)
    with serving(monkeypatch, "thought", error(401, "bad key")) as server:
        done = aethr("run", "--json", "--report", "r.html", TASK)
    assert done.code == 3
    assert seen(done.record) == [(host_of(server.origin), "openai:gpt-4o-mini", 2, 0)]
    [stopped] = done.record["unanswered"]
    assert (stopped["step"], stopped["iteration"], stopped["part"]) == ("review", 1, 1)
    assert [each["path"] for each in stopped["context"]] == ["app.py"]
    assert "sent, and not answered" in Path("r.html").read_text(encoding="utf-8")

    with serving(monkeypatch, PASS):
        resumed = aethr(*resume_words(done.err), "--json", "--report", "r.html").record
    assert [each[2:] for each in seen(resumed)] == [(1, 1), (1, 0)], "two ports, and one of them before"
    assert resumed["unanswered"] == []
    page = Path("r.html").read_text(encoding="utf-8")
    assert "1 answer came from a checkpoint" in page
    assert "1, 1 of them by an earlier run" in page


def test_a_refusal_before_the_first_call_sent_nothing(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(".aethr.yaml", ONE)
    with serving(monkeypatch) as server:
        done = aethr("run", "--json", "--max-tokens", "10", TASK)
    assert done.code == 5, done.err
    assert (server.bodies, done.record["recipients"], done.record["unanswered"]) == ([], [], [])


def test_an_answer_that_was_kept_was_sent_earlier(
    aethr: Aethr, project: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(".aethr.yaml", ONE)
    project.git("add", ".")
    project.git("commit", "-qm", "base")
    project.write("app.py", "one\n")
    project.git("add", ".")
    words = ["hook", "--checkpoint-dir", str(tmp_path / "kept"), "--report", "r.md", "--report", "r.html"]
    with serving(monkeypatch, always=lambda _: PASS) as server:
        assert aethr(*words).code == 0
        host = host_of(server.origin)
        assert f"| {FIRST} | 1 file |" in Path("r.md").read_text(encoding="utf-8")
        assert aethr(*words).code == 0
        assert len(server.bodies) == 1
    page = Path("r.md").read_text(encoding="utf-8")
    assert f"<summary>Who saw what: {host}</summary>" in page
    assert "| 1, 1 of them by an earlier run |" in page


def test_a_mock_tells_nobody(aethr: Aethr, project: Repo) -> None:
    project.write(".aethr.yaml", ONE)
    done = aethr("run", "--json", "--report", "r.md", "--report", "r.html", TASK)
    assert done.record["recipients"] == []
    assert "Nothing was sent to a model or an agent." in Path("r.md").read_text(encoding="utf-8")
    page = Path("r.html").read_text(encoding="utf-8")
    assert "no model was called, and nothing was sent" in page
    assert "which was not sent" in page


@pytest.mark.skipif(os.name != "posix", reason="agent steps need Linux or macOS")
def test_an_agent_chooses_its_host_and_reads_more(desk: Desk) -> None:
    desk.agent("echo one > app.py")
    done = desk.run("run", "--json", "--report", "r.html", "do it", answers=(PASS,))
    agent, model = done.record["recipients"]
    assert (agent["host"], agent["agent"], agent["calls"]) == (None, "opencode", 1)
    assert agent["bytes_sent"] == len(desk.prompt.encode())
    assert (model["agent"], model["files"]) == (None, ["app.py"])
    page = Path("r.html").read_text(encoding="utf-8")
    assert "chosen by opencode" in page
    assert "and what the agent read itself" in page

    desk.fail("echo two > app.py")
    record = desk.aethr("run", "--json", "do it").record
    assert [each["agent"] for each in record["recipients"]] == ["opencode"], "it was told, and failed"


def test_a_merge_adds_up_what_its_shards_sent(
    aethr: Aethr, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = shards(aethr, 2)
    [one] = merged(aethr, files)["recipients"]
    assert (one["calls"], len(one["files"])) == (len(server.bodies), 15)
    with serving(monkeypatch, answer(server.bodies[0]), error(400, "no")) as failing:
        aethr("run", "--diff", "HEAD~1..HEAD", "--shard", "2/2", "--report", "failed.json", TASK)
    both = merged(aethr, [files[0], Path("failed.json")])
    assert [each["calls"] for each in both["recipients"] if each["host"] == host_of(failing.origin)] == [2]
    assert len(both["unanswered"]) == 1


def test_a_step_of_an_older_checkpoint_went_to_a_host_that_is_not_known() -> None:
    step = StepResult("review", "reviewer", "model", "openai:x", 1, "", REVISE)
    result = RESULT._replace(steps=(step,))
    [found] = find_recipients(result)
    assert (found.host, found.name, found.calls) == (None, "not known to Aethr", 1)
    hostile = step._replace(sent=(Sent("m|<b>", "h|@team"),))
    assert "| h\\|@" in recipients_table(find_recipients(result._replace(steps=(hostile,))))
