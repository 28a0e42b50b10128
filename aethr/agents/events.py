"""What agents print, one JSON event per line, read into a ``Transcript`` and judged (pure).

An event is untrusted: a field may be missing or of any type, and a line need not be JSON.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from aethr.agents import Agent
from aethr.base import outside
from aethr.base.errors import AethrError, AgentError, BudgetError
from aethr.base.records import NO_USAGE, Notice, Request, TextDelta, Usage
from aethr.base.sanitize import one_line

Event: TypeAlias = dict[str, Any]
Progress: TypeAlias = Iterator[TextDelta | Notice]

MOST_TOKENS = 1 << 40
"""No call uses nearly as many: a larger count is treated as unknown."""

TOOL_LINE = 120
"""Characters of the line that says which tool an agent used."""

_SURROGATE = re.compile("[\ud800-\udfff]")


class About(NamedTuple):
    """What a tool was used on: a path, or other words such as a command."""

    path: str = ""
    words: str = ""


@dataclass(slots=True)
class Transcript:
    """What the events so far say. ``root`` shortens paths in tool lines.

    - ``used``: usage by what was counted. A later figure for the same replaces the earlier one.
    - ``finish_reason``: the agent's last word on why it stopped; ``stop`` means that it finished.
    - ``pending``: sub-agents that still work, whatever the main agent says.
    - ``errors``: causes without advice; ``denied`` those that say that the key was refused; ``hopeless`` one
      that would come again and again; ``log`` causes that are only in its log, or after which it retries.
    - ``over_budget``: it stopped because of the limit on its cost; ``closing``: its last message calls no
      tool, so that nothing follows but the end.
    - ``refused``: what it was not permitted; ``asked``: the permissions it would have needed.
    - ``delegated``: how many tools so far called sub-agents whose own calls are in no event. ``cut``: how
      many answers in a row, up to now, lack their end.
    """

    root: Path
    texts: list[str] = field(default_factory=list)
    used: dict[str, Usage] = field(default_factory=dict)
    finish_reason: str = ""
    pending: bool = False
    errors: list[str] = field(default_factory=list)
    denied: list[str] = field(default_factory=list)
    hopeless: str = ""
    over_budget: bool = False
    closing: bool = False
    refused: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    delegated: int = 0
    cut: int = 0

    @property
    def content(self) -> str:
        return "\n\n".join(self.texts)

    @property
    def finished(self) -> bool:
        return self.finish_reason == "stop" and not self.pending and not self.errors

    @property
    def usage(self) -> Usage:
        """The sum; unknown if the agent reported nothing, or a figure is missing."""
        return Usage.sum(list(self.used.values())) if self.used else Usage()

    def say(self, text: str) -> Progress:
        """Add a finished piece of the answer. The pieces yielded here, joined, are ``content``."""
        if text:
            lead = "\n\n" if self.texts else ""
            self.texts.append(text)
            yield TextDelta(lead + text)

    def tool(self, name: str, about: About, failure: str = "") -> Progress:
        """Show a tool that was used in one line: ``edit a.py``, ``bash: pytest -q``, ``bash failed: ls``."""
        about = about._replace(path=about.path.removeprefix(f"{self.root}/"))
        line = _name_tool(f"{name} failed" if failure else name, about)
        yield Notice(one_line(line + (f" ({failure})" if failure else ""), TOOL_LINE), "tool")

    def spend(self, what: str, prompt: int | None, completion: int | None, cost: float | None = None) -> None:
        """Set what ``what`` used: one call, or all calls so far."""
        self.used[what] = _priced(prompt, completion, cost)

    def fail(self, cause: str, status: object = None) -> None:
        """Take note of a failed call after which the agent may try again."""
        self.log.append(cause)
        if status in (401, 403):
            self.denied.append(cause)


def _priced(prompt: int | None, completion: int | None, cost: float | None) -> Usage:
    """The usage of calls. Agents report a cost of 0 when they do not know the price."""
    free = prompt == completion == 0
    return Usage.of(prompt, completion, cost or (0.0 if free else None))


def _name_tool(name: str, about: About) -> str:
    line = name + (f" {about.path}" if about.path else "") + (f": {about.words}" if about.words else "")
    return " ".join(line.split())


def decode(line: bytes) -> Event | None:
    """The event of a line; None if it is not a JSON object."""
    try:
        event = outside.json_value(line.decode("utf-8", "replace"))
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def read_opencode(event: Event, transcript: Transcript) -> Progress:
    """``opencode run --format json``, 1.2 to 1.18."""
    part = _dict(event.get("part"))
    match event.get("type"):
        case "text":
            yield from transcript.say(_text(part.get("text")))
        case "tool_use":
            transcript.cut = 0
            transcript.delegated += part.get("tool") == "task"
            yield from _opencode_tool(part, transcript)
        case "step_finish":
            transcript.finish_reason = _text(part.get("reason"))
            was_cut = transcript.finish_reason == "unknown"
            transcript.cut = transcript.cut + 1 if was_cut else 0
            if transcript.cut >= _MOST_CUT:
                transcript.hopeless = f"the server ended {_MOST_CUT} answers in a row before their end"
            usage = count_opencode(part)
            unknown = was_cut and usage == NO_USAGE
            transcript.used[f"call {len(transcript.used) + 1}"] = Usage() if unknown else usage
        case "error":
            error = _dict(event.get("error"))
            data = _dict(error.get("data"))
            cause = _text(data.get("message")) or _text(error.get("name")) or "an error without a message"
            transcript.errors.append(cause + _status(data.get("statusCode")))


_MOST_CUT = 3
"""OpenCode asks again without end if a stream ends early, and each of these calls may be paid."""


def count_opencode(part: Event) -> Usage:
    """The usage of a ``step_finish``, or of a message in OpenCode's database."""
    tokens = _dict(part.get("tokens"))
    cache = _dict(tokens.get("cache"))
    return _priced(
        _count(tokens.get("input"), cache.get("read"), cache.get("write")),
        _count(tokens.get("output"), tokens.get("reasoning")),
        _dollars(part.get("cost")),
    )


def _opencode_tool(part: Event, transcript: Transcript) -> Progress:
    name, state = _text(part.get("tool")), _dict(part.get("state"))
    failure = _text(state.get("error")) if state.get("status") == "error" else ""
    about = _about(_dict(state.get("input")))
    yield from transcript.tool(name, about, failure)
    if "rejected permission" in failure:
        transcript.refused.append(_name_tool(name, about))
    elif "specified a rule which prevents" in failure:
        transcript.notes.append(f"a rule of your OpenCode configuration refused the tool {name}")


_ASKED = re.compile(r"permission requested: (.+?); auto-rejecting")
_LOGGED = re.compile(r'level=ERROR .*? error(?:\.error)?="((?:[^"\\]|\\.)*)"')
_AGAIN = 'message="stream error"'


def read_opencode_error(line: str, transcript: Transcript) -> Progress:
    """A line of OpenCode's standard error: its log, and the permissions it would have asked for."""
    if asked := _ASKED.search(line):
        transcript.asked.append(asked[1])
    if logged := _LOGGED.search(line):
        cause = re.sub(r"^\w*Error: ", "", logged[1].replace('\\"', '"'))
        transcript.log.append(cause)
        if _AGAIN in line:
            yield Notice(one_line(f"opencode: {cause}"), "warning")


def read_claude(event: Event, transcript: Transcript) -> Progress:
    """``claude -p --output-format stream-json --verbose``, 2.1."""
    match event.get("type"), event.get("subtype"):
        case "assistant", _:
            yield from _claude_message(event, transcript)
        case "system", "api_retry":
            status = event.get("error_status")
            cause = _text(event.get("error")) + _status(status)
            transcript.fail(cause, status)
            yield Notice(one_line(f"claude: {cause}; it retries"), "warning")
        case "system", "background_tasks_changed":
            kinds = [each.get("task_type") for each in _dicts(event.get("tasks"))]
            transcript.pending = "local_agent" in kinds
        case "result", _:
            _claude_result(event, transcript)


def _claude_message(event: Event, transcript: Transcript) -> Progress:
    """A message, or a part of one. The words of sub-agents are not the answer."""
    message = _dict(event.get("message"))
    by_model = message.get("model") != "<synthetic>"  # else Claude Code's own words, about an error
    if by_model:
        transcript.denied.clear()
        prompt, completion = _count_claude(_dict(message.get("usage")), _CLAUDE_TOKENS)
        transcript.spend(f"message {_text(message.get('id'))}", prompt, completion)
    is_main = event.get("parent_tool_use_id") is None
    parts = _dicts(message.get("content"))
    if is_main:
        transcript.finish_reason = ""
        transcript.closing = bool(parts) and all(part.get("type") != "tool_use" for part in parts)
    for part in parts:
        if part.get("type") == "text" and is_main and by_model:
            yield from transcript.say(_text(part.get("text")))
        elif part.get("type") == "tool_use":
            yield from transcript.tool(_text(part.get("name")).lower(), _about(_dict(part.get("input"))))


def _claude_result(event: Event, transcript: Transcript) -> None:
    """The end of a turn, with what all calls so far used: it takes the place of what the messages said."""
    models = [_dict(each) for each in _dict(event.get("modelUsage")).values()]
    if models:
        calls = [Usage.of(*_count_claude(each, _CLAUDE_TOKENS_OF_MODEL)) for each in models]
    else:  # an older version counts only the turn's own calls, without sub-agents
        turns = [transcript.used["turns"]] if "turns" in transcript.used else []
        calls = [*turns, Usage.of(*_count_claude(_dict(event.get("usage")), _CLAUDE_TOKENS))]
    total = Usage.sum(calls)
    guessed = any(each.get("costBasis") == "unknown" for each in models)
    transcript.used.clear()
    cost = None if guessed else _dollars(event.get("total_cost_usd"))
    transcript.spend("turns", total.prompt_tokens, total.completion_tokens, cost)
    for denial in _dicts(event.get("permission_denials")):
        about = _about(_dict(denial.get("tool_input")))
        transcript.refused.append(_name_tool(_text(denial.get("tool_name")).lower(), about))
    transcript.over_budget = event.get("subtype") == "error_max_budget_usd"
    if transcript.over_budget and event.get("stop_reason") == "end_turn":
        transcript.finish_reason = "stop"  # only the last call exceeded the limit
    elif event.get("is_error") or event.get("subtype") != "success":
        said = event.get("errors")
        first = said[0] if isinstance(said, list) and said else ""
        cause = _text(event.get("result")) or _text(first) or _text(event.get("subtype")) or "an error"
        transcript.errors.append(cause.partition(" Run --model")[0])
    else:
        transcript.finish_reason = "stop"


_CLAUDE_TOKENS = ("output_tokens", "input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
_CLAUDE_TOKENS_OF_MODEL = ("outputTokens", "inputTokens", "cacheCreationInputTokens", "cacheReadInputTokens")


def _count_claude(counts: Event, names: tuple[str, ...]) -> tuple[int | None, int | None]:
    """Tokens of the prompt and of the answer, whose name comes first."""
    return _count(*map(counts.get, names[1:])), _count(counts.get(names[0]))


_REFUSED_KEY = re.compile(r"unexpected status (401|403)\b")
_REFUSAL = re.compile(r"codex_core::tools::router: error=(.*(?:reject|not permitted).*)", re.IGNORECASE)
_WRAPPED = re.compile(r'exec_command failed: .*?Rejected\(\\?"(.*?)\\?"\)"? *\}?$')


def read_codex_error(line: str, transcript: Transcript) -> Progress:
    """A line of Codex's standard error: what it refused is only in its log."""
    if found := _REFUSAL.search(line):
        transcript.refused.append(_WRAPPED.sub(r"\1", found[1]))
    yield from ()


def read_codex(event: Event, transcript: Transcript) -> Progress:
    """``codex exec --json``, 0.169. Its ``error`` events are retries; ``turn.failed`` is the failure.

    The usage of a turn counts the whole thread so far, without that of sub-agents.
    """
    item = _dict(event.get("item"))
    if item:
        transcript.denied.clear()
    match event.get("type"), item.get("type"):
        case "item.completed", "agent_message":
            yield from transcript.say(_text(item.get("text")))
        case "item.completed", "command_execution" | "file_change" | "mcp_tool_call":
            yield from _codex_tool(item, transcript)
        case "item.completed", "collab_tool_call":
            transcript.spend("sub-agents", None, None)
        case "item.completed", "error":
            transcript.notes.append(f"codex: {_text(item.get('message'))}")
        case "error", _:
            cause = _text(event.get("message"))
            found = _REFUSED_KEY.search(cause)
            transcript.fail(cause, int(found[1]) if found else None)
            if cause.startswith("Reconnecting"):  # else it is the last one, which turn.failed repeats
                yield Notice(one_line(f"codex: {cause}"), "warning")
        case "turn.completed", _:
            usage = _dict(event.get("usage"))
            transcript.spend("thread", _count(usage.get("input_tokens")), _count(usage.get("output_tokens")))
            transcript.finish_reason = "stop"
        case "turn.failed", _:
            message = _text(_dict(event.get("error")).get("message"))
            told = decode(message.encode())  # what the API said, as it came
            inner = _text(_dict(told.get("error")).get("message")) if told else ""
            transcript.errors.append(inner or message or "an error")


def _codex_tool(item: Event, transcript: Transcript) -> Progress:
    status = _text(item.get("status"))
    failure = status if status in ("failed", "declined") else ""
    name = {"command_execution": "bash", "file_change": "edit"}.get(item["type"], _text(item.get("tool")))
    if status == "declined":
        transcript.refused.append(_name_tool(name, About(words=_text(item.get("command")))))
    for change in _dicts(item.get("changes")):
        kind = _text(change.get("kind")).replace("update", name) or name
        yield from transcript.tool(kind, About(path=_text(change.get("path"))), failure)
    if name != "edit":
        yield from transcript.tool(name, About(words=_text(item.get("command"))), failure)


_PATHS = ("filePath", "file_path", "notebook_path", "path")
_WORDS = ("command", "pattern", "url", "query", "description")


def _about(arguments: Event) -> About:
    return About(
        next((path for name in _PATHS if (path := _text(arguments.get(name)))), ""),
        next((words for name in _WORDS if (words := _text(arguments.get(name)))), ""),
    )


def _dict(value: object) -> Event:
    return value if isinstance(value, dict) else {}


def _dicts(value: object) -> list[Event]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _text(value: object) -> str:
    """A string without lone surrogates, which UTF-8 cannot encode; empty for any other value."""
    return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", value) if isinstance(value, str) else ""


def _status(value: object) -> str:
    return f" (HTTP {value})" if isinstance(value, int) and 100 <= value < 600 else ""


def _count(first: object, *parts: object) -> int | None:
    """The sum of counts; unknown without the first, while any other missing part counts as zero."""
    counts = []
    for value in (first, *parts):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        number = outside.count(value) if is_number else -1
        counts.append(number if 0 <= number < MOST_TOKENS else None)
    return None if counts[0] is None else sum(count or 0 for count in counts)


def _dollars(value: object) -> float | None:
    number = outside.number(value)
    return number if number is not None and number >= 0 else None


_HOLLOW = "Unexpected server error"
"""OpenCode's message when the cause is only in its log."""

_AUTH = ("401", "403", "api key", "api-key", "authenticat", "unauthorized")
_NO_MODEL = (
    "model not found",
    "not_found_error",
    "no such model",
    "does not exist",
    "issue with the selected model",
)


def failure(
    agent: Agent, request: Request, transcript: Transcript, code: int, said: Sequence[str]
) -> AethrError | None:
    """The error of a run that ended with ``code``; None for a success. ``said`` are its last lines.

    Agents exit with 0 after most failures, so a success is exit code 0, a finished last answer and no error
    event. What was refused is an error only if the agent did not finish without it.
    """
    cause = _find_cause(transcript, code, said)
    if cause is None or (transcript.over_budget and transcript.finished):
        return None
    if transcript.over_budget:
        return BudgetError(f"{who(agent, request)} was stopped: {cause}", "Raise --max-cost.")
    if transcript.refused and not transcript.errors and not transcript.hopeless:
        asked = f" (it asked for: {', '.join(dict.fromkeys(transcript.asked))})" if transcript.asked else ""
        cause = f"permission refused: {list_refused(transcript)}{asked}"
        return AgentError(
            one_line(f"step '{request.step}': {agent.name}: {cause}", 500), _permit(agent, request)
        )
    return AgentError(f"{who(agent, request)}: {cause}", _advise(agent, cause))


def list_refused(transcript: Transcript) -> str:
    return ", ".join(dict.fromkeys(transcript.refused))


def _permit(agent: Agent, request: Request) -> str:
    if request.unsafe_permissions:
        return f"Allow it in the configuration of {agent.name}."
    return (
        f"In the step '{request.step}' permit a command with `allow`, or skip all checks of {agent.name} "
        "with `unsafe_permissions: true`."
    )


def late(agent: Agent, request: Request, transcript: Transcript, seconds: float) -> AgentError:
    """The error of a run that passed its deadline."""
    last = (transcript.log or transcript.errors or [""])[-1]
    cause = f"no end after {seconds:g} s" + (f"; its last error: {one_line(last)}" if last else "")
    fix = _advise(agent, last) or "Raise `timeout_s` of the model of this role, or make the step smaller."
    return AgentError(f"{who(agent, request)}: {cause}", fix)


def who(agent: Agent, request: Request) -> str:
    model = f" ({request.model.name})" if request.model else ""
    return f"step '{request.step}': {agent.name}{model}"


def _find_cause(transcript: Transcript, code: int, said: Sequence[str]) -> str | None:
    if transcript.hopeless:
        return one_line(transcript.hopeless, 500)
    if transcript.denied and not transcript.errors and not transcript.finished:
        return one_line(transcript.denied[-1], 500)
    if transcript.errors:
        last = transcript.errors[-1]
        return one_line(transcript.log[-1] if _HOLLOW in last and transcript.log else last, 500)
    if code < 0:
        name = next((each.name for each in signal.Signals if each == -code), f"signal {-code}")
        return f"ended by {name}"
    if code > 0:
        words = (transcript.log or [line for line in said if line.strip()] or ["no message"])[-1]
        return f"exit code {code}: {one_line(words.strip(), 500)}"
    if not transcript.finish_reason:
        return "it ended without an answer"
    if transcript.finish_reason != "stop":
        return f"it stopped before it was finished ({one_line(transcript.finish_reason)})"
    return None


def _advise(agent: Agent, cause: str) -> str:
    lower = cause.lower()
    if any(sign in lower for sign in _NO_MODEL):
        return f"Correct the model's name in the workflow file: {agent.models}."
    if any(sign in lower for sign in _AUTH):
        return f"Check the key of this provider, or log in with `{agent.login}`."
    if _HOLLOW in cause:
        return f"Most often it does not know the model's name: {agent.models}."
    return ""
