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
from aethr.base.errors import AgentError
from aethr.base.records import Notice, Request, TextDelta, Usage
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

    ``finish_reason`` is the agent's last word on why it stopped; ``stop`` means that it finished.
    ``errors`` are causes without advice, ``refused`` the tools whose permission was refused, ``asked``
    the permissions it would have needed, ``log`` causes that are only in its log.
    """

    root: Path
    texts: list[str] = field(default_factory=list)
    spent: list[Usage] = field(default_factory=list)
    finish_reason: str = ""
    errors: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def content(self) -> str:
        return "\n\n".join(self.texts)

    @property
    def usage(self) -> Usage:
        """The sum; unknown if the agent reported nothing, or a call's figure is missing."""
        return Usage.sum(self.spent) if self.spent else Usage()

    def say(self, text: str) -> Progress:
        """Add a finished piece of the answer. The pieces yielded here, joined, are ``content``."""
        if text:
            lead = "\n\n" if self.texts else ""
            self.texts.append(text)
            yield TextDelta(lead + text)

    def tool(self, name: str, about: About, failure: str = "") -> Progress:
        """Show a tool that was used in one line: ``edit a.py``, ``bash: pytest -q``."""
        path = about.path.removeprefix(f"{self.root}/")
        line = name + (f" {path}" if path else "") + (f": {about.words}" if about.words else "")
        line += f" failed: {failure}" if failure else ""
        yield Notice(one_line(" ".join(line.split()), TOOL_LINE), "tool")

    def spend(self, prompt: int | None, completion: int | None, cost: float | None) -> None:
        """Count one call. Agents report a cost of 0 when they do not know the price."""
        free = prompt == completion == 0
        self.spent.append(Usage.of(prompt, completion, cost or (0.0 if free else None)))


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
            yield from _opencode_tool(part, transcript)
        case "step_finish":
            transcript.finish_reason = _text(part.get("reason"))
            tokens = _dict(part.get("tokens"))
            cache = _dict(tokens.get("cache"))
            transcript.spend(
                _count(tokens.get("input"), cache.get("read"), cache.get("write")),
                _count(tokens.get("output"), tokens.get("reasoning")),
                _dollars(part.get("cost")),
            )
        case "error":
            error = _dict(event.get("error"))
            data = _dict(error.get("data"))
            cause = _text(data.get("message")) or _text(error.get("name")) or "an error without a message"
            transcript.errors.append(cause + _status(data.get("statusCode")))


def _opencode_tool(part: Event, transcript: Transcript) -> Progress:
    name, state = _text(part.get("tool")), _dict(part.get("state"))
    failure = _text(state.get("error")) if state.get("status") == "error" else ""
    yield from transcript.tool(name, _about(_dict(state.get("input"))), failure)
    if "rejected permission" in failure:
        transcript.refused.append(name)
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
    match event.get("type"):
        case "assistant":
            for part in _dicts(_dict(event.get("message")).get("content")):
                if part.get("type") == "text":
                    yield from transcript.say(_text(part.get("text")))
                elif part.get("type") == "tool_use":
                    name = _text(part.get("name")).lower()
                    yield from transcript.tool(name, _about(_dict(part.get("input"))))
        case "system" if event.get("subtype") == "api_retry":
            cause = _text(event.get("error")) + _status(event.get("error_status"))
            yield Notice(one_line(f"claude: {cause}; it retries"), "warning")
        case "result":
            _claude_result(event, transcript)


def _claude_result(event: Event, transcript: Transcript) -> None:
    usage = _dict(event.get("usage"))
    transcript.spend(
        _count(
            usage.get("input_tokens"),
            usage.get("cache_creation_input_tokens"),
            usage.get("cache_read_input_tokens"),
        ),
        _count(usage.get("output_tokens")),
        _dollars(event.get("total_cost_usd")),
    )
    denials = (_text(each.get("tool_name")).lower() for each in _dicts(event.get("permission_denials")))
    transcript.refused.extend(denials)
    if event.get("is_error") or event.get("subtype") != "success":
        transcript.errors.append(_text(event.get("result")) or _text(event.get("subtype")) or "an error")
    else:
        transcript.finish_reason = "stop"


def read_codex(event: Event, transcript: Transcript) -> Progress:
    """``codex exec --json``, 0.169. Its ``error`` events are retries; ``turn.failed`` is the failure."""
    item = _dict(event.get("item"))
    match event.get("type"), item.get("type"):
        case "item.completed", "agent_message":
            yield from transcript.say(_text(item.get("text")))
        case "item.completed", "command_execution" | "file_change" | "mcp_tool_call":
            yield from _codex_tool(item, transcript)
        case "error", _:
            yield Notice(one_line(f"codex: {_text(event.get('message'))}"), "warning")
        case "turn.completed", _:
            usage = _dict(event.get("usage"))
            transcript.spend(_count(usage.get("input_tokens")), _count(usage.get("output_tokens")), None)
            transcript.finish_reason = "stop"
        case "turn.failed", _:
            transcript.errors.append(_text(_dict(event.get("error")).get("message")) or "an error")


def _codex_tool(item: Event, transcript: Transcript) -> Progress:
    status = _text(item.get("status"))
    failure = status if status in ("failed", "declined") else ""
    name = {"command_execution": "bash", "file_change": "edit"}.get(item["type"], _text(item.get("tool")))
    if status == "declined":
        transcript.refused.append(name)
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
_NO_MODEL = ("model not found", "not_found_error", "no such model", "does not exist")


def failure(
    agent: Agent, request: Request, transcript: Transcript, code: int, said: Sequence[str]
) -> AgentError | None:
    """The error of a run that ended with ``code``; None for a success. ``said`` are its last lines.

    Agents exit with 0 after most failures, so a success is exit code 0, a finished last answer, no error
    event and no refused permission.
    """
    if transcript.refused:
        tools = ", ".join(dict.fromkeys(transcript.refused))
        asked = f" (it asked for: {', '.join(dict.fromkeys(transcript.asked))})" if transcript.asked else ""
        skip = (
            f", or set `unsafe_permissions: true` for the step '{request.step}', which skips all its checks"
        )
        return AgentError(
            one_line(f"step '{request.step}': {agent.name}: permission refused: {tools}{asked}", 500),
            f"Allow it in the configuration of {agent.name}{'' if request.unsafe_permissions else skip}.",
        )
    cause = _find_cause(transcript, code, said)
    if cause is None:
        return None
    return AgentError(f"{who(agent, request)}: {cause}", _advise(agent, cause))


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
