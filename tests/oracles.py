"""What must hold for any input of the readers, in words of its own: for property tests and the fuzzer."""

from __future__ import annotations

import json
import re
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import cmarkgfm
import html5lib
import httpx
import jsonschema
from cmarkgfm.cmark import Options

from aethr import review
from aethr.agents import events as agents
from aethr.base import codec
from aethr.base.errors import ConfigError, UsageError
from aethr.base.options import RunOptions
from aethr.base.records import StepResult, Usage, WorkflowSpec
from aethr.config import workflow_file
from aethr.config.workflow_file import Vocabulary
from aethr.engine import checkpoint
from aethr.engine.checkpoint import Checkpoint
from aethr.github import command, event, pull, runner, upsert
from aethr.github.inputs import Inputs
from aethr.github.pull import Pull
from aethr.github.upsert import LONGEST_WAIT_S, TRIES, Api, ApiError, Marker, PullRequest
from aethr.llm import CallFailed, Endpoint, sse
from aethr.llm.failures import error_in, explain
from aethr.llm.protocols import chat
from aethr.llm.spending import is_plausible
from aethr.review import structured, thinking
from aethr.workflow import planning

_Value = TypeVar("_Value")

VOCABULARY = Vocabulary(
    sources={
        "git_diff": None,
        "latest_diff": None,
        "file": workflow_file.ARGUMENT,
        "glob": workflow_file.ARGUMENT,
    },
    backends=("model", "opencode"),
    conditions=planning.vocabulary().conditions,
)
_ABOUT = re.compile(r"(?<![a-z])reviewstatus")
_PASS = re.compile(r"[^a-z]*reviewstatus:+pass:*")
_HIDDEN = frozenset((
    "blockquote", "comment", "del", "details", "head", "iframe", "noembed", "noframes", "object", "plaintext",
    "pre", "q", "s", "script", "select", "strike", "style", "svg", "template", "textarea", "title", "xmp",
))  # fmt: skip
_BLOCKS = frozenset((
    "blockquote", "br", "details", "div", "dl", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p",
    "pre", "section", "summary", "table", "tr", "ul",
))  # fmt: skip


def a_workflow_or_its_mistakes(text: str) -> WorkflowSpec | None:
    """Nothing but a ``ConfigError`` that can be printed comes out of a workflow file."""
    try:
        return workflow_file.parse(text, "a.yaml", VOCABULARY)
    except ConfigError as error:
        said = str(error)
    assert _is_shown(said.replace("\n", ""))
    return None


def _is_shown(text: str) -> bool:
    """Whether no character controls a terminal, breaks the line or is half a pair."""
    return all(unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in text)


def a_checkpoint_or_one_line(text: str) -> Checkpoint | None:
    """Nothing but a ``UsageError`` of one line comes out of a checkpoint; what is read can be written."""
    said = ""
    try:
        saved = checkpoint.load(text.lstrip("@"))
    except UsageError as error:
        said, saved = str(error), None
    assert "\n" not in said
    if saved is None:
        return None
    for step in saved.steps:
        assert codec.step_from_json(json.loads(codec.dumps(codec.to_json(step)))) == step
    return saved


def a_pass_only_when_it_is_said(text: str) -> None:
    """A pass is the last line about the status on the page that GitHub would show, and stands in no quote.

    Two readers that are not ours make the page: GitHub's own Markdown parser, and an HTML5 parser.
    """
    verdict = review.parse(text)
    if verdict.status != "pass":
        return
    assert all(finding.severity == "low" for finding in verdict.findings)
    # A dash or an equals sign before the word says the same as a colon.
    lines = (re.sub("[-\N{EN DASH}\N{EM DASH}=]", ":", line.lower()) for line in visible(_answer(text)))
    seen = [re.sub("[^a-z:]", "", line) for line in lines]
    about = [line for line in seen if _ABOUT.search(line)]
    assert about, "no line about the status is visible"
    assert _PASS.fullmatch(about[-1]), f"the last line about the status is {about[-1]!r}"


def a_review_as_json(text: str) -> None:
    """JSON is a review only by its schema, and says in text form what it says as JSON.

    The schema is applied by a validator that is not ours.
    """
    read = structured.read(text)
    if read is None:
        return
    verdict = review.parse(read.content)
    if read.form == "text":
        assert (verdict.status, verdict.findings) == ("none", ()), read.content
        return
    said = json.loads(re.sub(r"\A\s*```\w*|```\s*\Z", "", text))
    jsonschema.validate(said, structured.SCHEMA)
    a_pass_only_when_it_is_said(read.content)
    found = Counter(each.severity for each in verdict.findings)
    told = Counter(each["severity"] for each in said["findings"])
    assert found <= told, "a finding that nobody has made"
    if verdict.status == "pass":
        assert said["verdict"] == "pass"
        gating = [each for each in said["findings"] if each["severity"] != "low"]
        assert all(re.search(_LEFT_OUT, each["message"], re.IGNORECASE) for each in gating)


_LEFT_OUT = (
    r"\A\W*\Z|\b(?:none|nil|nothing|not?|n\s*/\s*a|0|zero|clean|empty)\b"
    r"|\b(?:fixed|resolved|addressed|done|corrected)\b|what is wrong, when"
)
"""In the words of what a reader takes for no finding."""


def _answer(text: str) -> str:
    """Without thinking, and without the one fence that may be around all of it."""
    whole = thinking.split(text).answer
    fenced = re.fullmatch(r"\s*(`{3,}|~{3,})[ \t]*\w*[ \t]*\r?\n(.*)\n {0,3}\1\s*", whole, re.DOTALL)
    return fenced[2] if fenced and fenced[1] not in fenced[2] else whole


def visible(text: str) -> list[str]:
    """The lines of the rendered page that are not code, a quote, struck out, folded away or hidden."""
    page = cmarkgfm.github_flavored_markdown_to_html(text, options=Options.CMARK_OPT_UNSAFE)
    tree = html5lib.parseFragment(page, namespaceHTMLElements=False)
    lines = [""]

    def put(piece: str | None, *, hidden: bool) -> None:
        for number, part in enumerate((piece or "").split("\n")):
            if number:
                lines.append("")
            lines[-1] += "" if hidden else part

    def walk(element: Any, *, hidden: bool) -> None:
        name = element.tag if isinstance(element.tag, str) else "comment"
        hidden = hidden or name in _HIDDEN or not {"hidden", "style", "class"}.isdisjoint(element.attrib)
        lines.extend([""] if name in _BLOCKS else [])
        put(element.text, hidden=hidden)
        for child in element:
            walk(child, hidden=hidden)
            put(child.tail, hidden=hidden)
        lines.extend([""] if name in _BLOCKS else [])

    walk(tree, hidden=False)
    return [line for line in lines if line.strip()]


def an_answer_of_github_or_one_line(text: str) -> None:
    """Whatever GitHub answers, the comment is posted or an ``ApiError`` of one line says why, soon.

    ``text`` is an answer as on the wire: the status, headers, an empty line, and the body of every answer.
    """
    head, _, body = text.partition("\n\n")
    status, *lines = head.split("\n")
    code = int(status) if re.fullmatch("[2-5][0-9]{2}", status) else 200
    parts = (line.partition(":") for line in lines if ":" in line)
    headers = [(name.strip().encode("ascii", "replace"), on_wire(value.strip())) for name, _, value in parts]
    slept: list[float] = []
    answer = httpx.MockTransport(lambda _: httpx.Response(code, headers=headers, content=on_wire(body)))
    where, mark = PullRequest("o/r", 7, "https://api.example/graphql"), Marker("default", 500, 1, "a" * 40)
    said = posted = ""
    try:
        with Api("https://api.example", "token", slept.append, answer) as api:
            posted = upsert.upsert(api, where, mark, lambda before: f"{mark}\n{before}").url
    except ApiError as error:
        said = str(error)
    assert _is_shown(said)
    assert re.fullmatch("(?:https?://[!-~]{1,2000})?", posted)
    assert sum(slept) <= 4 * TRIES * LONGEST_WAIT_S
    asked = Pull(7, "main", "b" * 40, True, "feature", "o/r")
    for read in (
        lambda api: pull.read(api, "o/r", 7).head,
        lambda api: pull.head_at(api, asked, "2026-01-02T03:04:05Z") or "a" * 40,
        lambda api: "a" * 40 if command.may_write(api, "o/r", {"login": "ann"}) in (True, False) else "",
    ):
        with Api("https://api.example", "token", float, answer) as api:
            assert re.fullmatch("[0-9a-f]{40,64}|", _read_or_one_line(partial(read, api)) or "")


def _read_or_one_line(read: Callable[[], _Value]) -> _Value | None:
    """What a reader of GitHub's texts returns, or None after an error of one line."""
    said = ""
    try:
        return read()
    except (UsageError, ApiError) as error:
        said = str(error)
    assert _is_shown(said)
    return None


def on_wire(text: str) -> bytes:
    """Bytes of any kind: a lone surrogate makes ones that are not UTF-8."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


ENVIRONMENT = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_REPOSITORY": "octo/shop",
    "GITHUB_EVENT_NAME": "pull_request",
    "GITHUB_SHA": "b" * 40,
    "GITHUB_REF": "refs/pull/7/merge",
    "GITHUB_ACTOR": "ann",
    "GITHUB_RUN_ID": "500",
    "GITHUB_RUN_ATTEMPT": "1",
    "GITHUB_JOB": "review",
    "GITHUB_WORKSPACE": "/w",
    "RUNNER_TEMP": "/t",
}
EVENT = {
    "pull_request": {
        "number": 7,
        "user": {"login": "ann"},
        "base": {"sha": "a" * 40, "repo": {"id": 1, "full_name": "octo/shop"}},
        "head": {"sha": "b" * 40, "repo": {"id": 1, "full_name": "octo/shop"}},
    },
    "merge_group": {"head_sha": "b" * 40, "base_sha": "a" * 40},
    "action": "created",
    "issue": {"number": 7, "pull_request": {}},
    "comment": {
        "id": 1,
        "body": "/aethr review",
        "user": {"login": "ann", "type": "User"},
        "created_at": "2026-01-02T03:04:05Z",
    },
    "before": "a" * 40,
    "after": "b" * 40,
    "repository": {"default_branch": "main"},
}


def an_event_or_one_line(text: str) -> None:
    """Whatever is in the event's file, a change of plain ids comes out, or a ``UsageError`` of one line."""
    with tempfile.NamedTemporaryFile("wb", suffix=".json") as file:
        file.write(on_wire(text))
        file.flush()
        for name in ("pull_request", "pull_request_target", "merge_group", "push", "workflow_dispatch"):
            _a_change_or_one_line({"GITHUB_EVENT_PATH": file.name, "GITHUB_EVENT_NAME": name})
        nowhere = {"GITHUB_EVENT_PATH": file.name, "GITHUB_API_URL": "http://127.0.0.1:1"}
        given = Inputs(RunOptions(), token="t")
        asked = _read_or_one_line(
            lambda: command.accept(runner.read({**ENVIRONMENT, **nowhere}), given, float)
        )
        assert asked is None, "nobody confirmed who asks"


def an_environment_or_one_line(text: str) -> None:
    """Whatever the variables of a runner say (``NAME=value``, one a line), the same."""
    changed = dict(line.partition("=")[::2] for line in text.split("\n") if "\0" not in line)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(json.dumps(EVENT))
        file.flush()
        _a_change_or_one_line({"GITHUB_EVENT_PATH": file.name, **changed})


def _a_change_or_one_line(environ: dict[str, str]) -> None:
    said = ""
    try:
        found = runner.read({**ENVIRONMENT, **environ})
        change = event.change(found)
    except UsageError as error:
        said = str(error)
    else:
        for commit in filter(None, (change.head, change.base)):
            assert re.fullmatch("[0-9a-f]{40,64}", commit)
        assert change.number is None or 0 < change.number < 1 << 53
        (change.onto or "").encode()
        assert "\n" not in f"{found.run_url}{found.temp}{found.workspace}"
        with Api(found.api_url, "token", float, httpx.MockTransport(lambda _: httpx.Response(204))):
            pass
    assert "\n" not in said


def a_stream_of_events_or_a_failed_call(text: str) -> None:
    """Whatever a model's server sends, text and counts come out, or a ``CallFailed`` that can be told."""
    data = on_wire(text)
    pieces = [data[at : at + 7] for at in range(0, len(data), 7)]
    usage, said = Usage(), ""
    try:
        for each in sse.objects(pieces, longest=1 << 20):
            if failure := error_in(each):
                raise failure
            chunk = chat.read(each, "xai:grok-4")
            if chunk.usage is not None and is_plausible(chunk.usage):
                usage = chunk.usage
    except CallFailed as failure:
        said = str(explain(failure, "xai:grok-4", Endpoint("k" * 20)))
    except (sse.EventTooLongError, sse.UnreadableError) as error:
        said = str(explain(CallFailed("garbage", str(error)), "xai:grok-4", Endpoint("k" * 20)))
    assert _is_shown(said)
    _is_kept("", usage)


def the_lines_of_an_agent(text: str) -> None:
    """Whatever an agent prints, what is learned from it can be kept, shown and counted."""
    for read in (agents.read_opencode, agents.read_claude, agents.read_codex):
        transcript = agents.Transcript(Path("/project"))
        for line in text.split("\n"):
            found = agents.decode(on_wire(line))
            if found is not None:
                for notice in read(found, transcript):
                    notice.text.encode()
            for notice in agents.read_opencode_error(line, transcript):
                assert "\n" not in notice.text
        _is_kept(transcript.content, transcript.usage)
        "".join([*transcript.errors, *transcript.refused, *transcript.notes]).encode()


def _is_kept(content: str, usage: Usage) -> None:
    step = StepResult("a", "r", "model", "m:x", 1, "0" * 64, content, usage=usage)
    assert codec.step_from_json(json.loads(codec.dumps(codec.to_json(step)))) == step
    assert len(f"{usage.total_tokens or 0:,}") < 40
