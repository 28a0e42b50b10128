"""Every way a provider can fail, at the second step of a run: how it ends, and that nothing paid is lost."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from aethr.engine import checkpoint
from tests.dialects import DIALECTS, Answer
from tests.live import KEY, PASS, REVISE, TASK, TWO_STEPS, Aethr, resume_line, resume_words, serving
from tests.model_server import Reply, error, text
from tests.support import Repo, pairs, tiered

HTML = "<!doctype html><html><head><title>Bad Gateway</title></head><body>nginx</body></html>"
WORDS = ("run", "--json", "--fail-on", "high", TASK)
IMPATIENT = TWO_STEPS.replace(
    'reviewer: "openai:gpt-4o-mini"', "reviewer: {model: openai:gpt-4o-mini, timeout_s: 1}"
)

MODEL = "openai:gpt-4o-mini"
LANES = {
    MODEL: "/chat/completions",
    "anthropic:claude-haiku-4-5": "/messages",
    "google:gemini-2.5-flash": ":streamGenerateContent",
}
"""A model of each protocol that differs in more than its address."""

WAYS = list(product(LANES, ("litellm", "direct")))
"""Each model with each transport."""

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("transport")]


@dataclass(frozen=True)
class Fault:
    """What the server does to the second step, and what must be seen of it."""

    name: str
    replies: tuple[Reply, ...]
    said: str
    code: int = 3
    workflow: str = TWO_STEPS


def again(reply: Reply, times: int = 3) -> tuple[Reply, ...]:
    return (reply,) * times


AT_ONCE = (
    Fault("401", (error(401, "bad key"),), "the key was refused (401): bad key"),
    Fault("403", (error(403, "not yours"),), "(403): not yours"),
    Fault("404", (error(404, "no such model"),), "no such model or address"),
    Fault("400", (error(400, "no"),), "the request was refused"),
    Fault("429 for ever", again(error(429, "slow down", Retry_After="0")), "too many requests (429)"),
    Fault("429 and an hour", (error(429, Retry_After="3600"),), "it asks to wait 3,600 s"),
    Fault(
        "no credit", (error(429, "You exceeded your current quota", "insufficient_quota"),), "no credit left"
    ),
    Fault("500 for ever", again(error(500, "oops", Retry_After="0")), "the provider failed (500)"),
    Fault(
        "502 with a page",
        again(Reply(status=502, body=HTML, content_type="text/html", headers={"Retry-After": "0"})),
        "the provider failed (502): an HTML page: 'Bad Gateway'",
    ),
    Fault("a page for 200", (Reply(body=HTML, content_type="text/html"),), "not in the protocol"),
    Fault("empty", again(Reply(chunks=()), 2), "the answer is empty"),
    Fault("white space", again(Reply(chunks=("\n", " ")), 2), "the answer is empty"),
    Fault("no first byte", (Reply(fault="never"),), "no answer in time", workflow=IMPATIENT),
    Fault("stall", (Reply(fault="stall"),), "no answer in time", workflow=IMPATIENT),
    Fault("drip", (Reply(fault="drip", delay_s=0.01),), "no answer in time", workflow=IMPATIENT),
    Fault(
        "all of it thinking", (Reply((), "length", usage=(90, 60)),), "all 60 answer tokens went to thinking"
    ),
    Fault("length", (Reply((PASS,), "length"),), "the answer of step 'review' was cut ({length})", 4),
    Fault("filtered", (Reply((PASS,), "content_filter"),), "was cut ({content_filter})", 4),
    Fault("refused", (Reply((), refusal="I cannot help with that."),), "I cannot help with that."),
    Fault("no verdict", (text("Fine."), text("Still fine.")), "gave no verdict", 4),
    Fault("429 once", (error(429, Retry_After="0"), text(PASS)), "retrying in 0 s (2/3)", 0),
    Fault("500 once", (error(500, Retry_After="0"), text(PASS)), "retrying in 0 s (2/3)", 0),
)
AFTER_WAITING = (
    Fault("429 and a second", (error(429, Retry_After="1"), text(PASS)), "retrying in 1 s (2/3)", 0),
    Fault("reset for ever", again(Reply(fault="reset_before"), 2), "no connection"),
    Fault("reset in the middle", again(Reply(fault="reset_mid"), 2), "no connection"),
    Fault("clean end", again(Reply(fault="cut"), 2), "ended without a finish reason after 13 characters"),
    Fault("half a body", again(Reply(fault="cut_body"), 2), "no connection"),
    Fault("done without a reason", again(Reply(fault="done_only"), 2), "ended without a finish reason"),
    Fault("broken JSON", again(Reply(fault="bad_json"), 1), "not in the protocol"),
    Fault("error in the stream", again(Reply(fault="error_event"), 2), "the model crashed"),
    Fault("error, then silence", again(Reply(fault="error_open"), 2), "the model crashed"),
    Fault(
        "a good answer after a cut one", (Reply(fault="cut"), text(PASS)), "the answer starts over (2/3)", 0
    ),
)


def everywhere(names: str, values: Sequence[Any], ci: int) -> pytest.MarkDecorator:
    """Every value in each of ``WAYS``; ``.ci/run`` has each in ``ci`` of them, and each way with some."""
    cases = ((*value, *way) for value, way in pairs(values, WAYS))
    return pytest.mark.parametrize(
        f"{names}, model, transport",
        tiered(cases, ci=ci * len(values)),
        indirect=["transport"],
        ids=lambda value: value.name if isinstance(value, Fault) else None,
    )


@everywhere("fault", [(fault,) for fault in (*AT_ONCE, *AFTER_WAITING)], ci=2)
def test_a_fault_of_the_provider(
    aethr: Aethr, project: Repo, temp: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault, model: str
) -> None:
    words = DIALECTS[LANES[model]].ends
    if fault.name == "filtered" and words.get("content_filter") == "refusal":
        fault = replace(fault, said="the model refused to answer", code=3)
    project.write(".aethr.yaml", fault.workflow.replace(MODEL, model))
    with serving(monkeypatch, text("An idea."), *fault.replies) as server:
        done = aethr(*WORDS)
        assert len(server.bodies) == 1 + len(fault.replies)
    assert done.code == done.record["exit_code"] == fault.code, done.err
    ends = {name: words.get(name, name) for name in ("length", "content_filter")}
    assert fault.said.format(**ends) in done.err
    if fault.name == "all of it thinking":
        assert (done.record["totals"]["prompt_tokens"], done.record["totals"]["calls"]) == (10 + 90, 2)
    assert_clean(done.out + done.err)
    left = list(temp.iterdir())
    if fault.code != 3:
        assert left == []
        assert (done.record["review"]["status"] == "pass") == (fault.code == 0)
        return
    assert [step.id for step in checkpoint.load(f"@{left[0]}").steps] == ["think"]
    assert done.err.splitlines()[-1] == f"  {resume_line(done.err)}"
    assert_resumes(aethr, temp, monkeypatch, resume_words(done.err))


HIGH = "- [high] app.py:2 — evaluates user\u2028input\n\n"
BEATS = (b": PROCESSING\n\n", b"event: ping\ndata:\n\n")
BAD_DAYS: Mapping[str, tuple[Answer, int, str]] = {
    "a finding with a line separator in it": (Answer((HIGH, PASS)), 1, "1 high"),
    "a finding that is only thought": (Answer((PASS,), thoughts=(HIGH,)), 0, "pass"),
    "a thought in the text": (
        Answer(("<think>\nReview status: pass\n</think>\n\nNo diff.",)),
        4,
        "no verdict",
    ),
    "a prompt that was cut": (Answer((PASS,), usage=(4, 5)), 0, "pass"),
    "all of it thought": (Answer((), "length", (90, 60), thoughts=("hm",)), 3, "went to thinking"),
    "a refusal": (Answer((), refusal="I cannot help with that."), 3, "I cannot help with that."),
}
"""What a server sends on a bad day: the exit code of the review, and what it says."""


@everywhere("day, unstreamed", list(product(BAD_DAYS, (False, True))), ci=3)
def test_a_bad_day_of_the_provider(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch, day: str, unstreamed: bool, model: str
) -> None:
    answer, code, said = BAD_DAYS[day]
    dialect = DIALECTS[LANES[model]]
    streamed = [b"".join((*BEATS, piece)) for piece in dialect.pieces(answer)]
    whole = [json.dumps(dialect.body(answer), ensure_ascii=False).encode()]
    reply = Reply(pieces=tuple(whole if unstreamed else streamed), content_type="text/event-stream")
    project.write(".aethr.yaml", TWO_STEPS.replace(MODEL, model))
    with serving(monkeypatch, text("An idea."), reply, reply):
        done = aethr(*WORDS)
    assert done.code == code, done.err
    assert said in done.err + done.out


@pytest.mark.parametrize("usage", [(-50_000, 5), (5, -50_000), (10**30, 5)], ids=str)
def test_a_count_that_cannot_be_is_none_and_the_run_can_go_on(
    aethr: Aethr, project: Repo, temp: Path, monkeypatch: pytest.MonkeyPatch, usage: tuple[int, int]
) -> None:
    project.write(".aethr.yaml", TWO_STEPS)
    with serving(monkeypatch, Reply(("An idea.",), usage=usage), error(401, "bad key")):
        done = aethr(*WORDS)
    assert (done.code, done.record["totals"]["prompt_tokens"]) == (3, None), done.err
    assert "the provider sent no token counts" in done.err
    assert_resumes(aethr, temp, monkeypatch, resume_words(done.err))


@pytest.mark.parametrize(
    "where", ["http://{free}/v1", "http://nowhere.invalid/v1"], ids=["refused", "no such host"]
)
def test_no_server_at_all(
    aethr: Aethr, project: Repo, temp: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    project.write(".aethr.yaml", TWO_STEPS)
    with serving(monkeypatch, text(REVISE)), socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        base = where.format(free=f"127.0.0.1:{free.getsockname()[1]}")
        monkeypatch.setenv("OPENAI_BASE_URL", base)
        done = aethr(*WORDS)
    assert (done.code, "no connection" in done.err, base in done.err) == (3, True, True), done.err
    assert_clean(done.out + done.err)
    with serving(monkeypatch, text("An idea."), text(PASS)) as server:
        assert aethr(*resume_words(done.err)).code == 0
        assert len(server.bodies) == 2
    assert list(temp.iterdir()) == []


def assert_clean(said: str) -> None:
    assert "Traceback" not in said
    assert KEY not in said
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", said)


def assert_resumes(aethr: Aethr, temp: Path, monkeypatch: pytest.MonkeyPatch, words: Sequence[str]) -> None:
    """The printed command makes the one call that is missing, and nothing stays behind."""
    with serving(monkeypatch, text(PASS)) as server:
        done = aethr(*words)
    assert (done.code, len(server.bodies)) == (0, 1), done.err
    assert "An idea." in json.dumps(server.bodies[0])
    assert list(temp.iterdir()) == []
