"""Whether an agent's run was a success, and what to say where it was not (pure)."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from aethr.agents import Agent
from aethr.agents.events import Transcript
from aethr.errors import AgentError
from aethr.records import Request
from aethr.sanitize import one_line

_HOLLOW = "Unexpected server error"
"""What OpenCode says instead of the cause, which is in its log."""

_AUTH = ("401", "403", "api key", "api-key", "authenticat", "unauthorized")
_NO_MODEL = ("model not found", "not_found_error", "no such model", "does not exist")


def failure(
    agent: Agent, request: Request, transcript: Transcript, code: int, said: Sequence[str]
) -> AgentError | None:
    """The error of a run that ended with ``code``; None for a success. ``said`` are its last words.

    Success is exit code 0, a finished last answer, no error event and no refused permission: agents
    exit with 0 after most failures.
    """
    if transcript.refused:
        return _refused(agent, request, transcript)
    cause = _cause(transcript, code, said)
    if cause is None:
        return None
    return AgentError(f"{who(agent, request)}: {cause}", _fix(agent, cause))


def late(agent: Agent, request: Request, transcript: Transcript, seconds: float) -> AgentError:
    """The error of a run that did not end in time."""
    last = (transcript.log or transcript.errors or [""])[-1]
    cause = f"no end after {seconds:g} s" + (f"; its last error: {one_line(last)}" if last else "")
    fix = _fix(agent, last) or "Raise `timeout_s` of the model of this role, or make the step smaller."
    return AgentError(f"{who(agent, request)}: {cause}", fix)


def who(agent: Agent, request: Request) -> str:
    model = f" ({request.model.name})" if request.model else ""
    return f"step '{request.step}': {agent.name}{model}"


def _refused(agent: Agent, request: Request, transcript: Transcript) -> AgentError:
    tools = ", ".join(dict.fromkeys(transcript.refused))
    asked = f" (it asked for: {', '.join(dict.fromkeys(transcript.asked))})" if transcript.asked else ""
    skip = f"set `unsafe_permissions: true` for the step '{request.step}', which skips all of its checks"
    return AgentError(
        one_line(f"step '{request.step}': {agent.name}: permission refused: {tools}{asked}", 500),
        f"Allow it in the configuration of {agent.name}"
        + ("." if request.unsafe_permissions else f", or {skip}."),
    )


def _cause(transcript: Transcript, code: int, said: Sequence[str]) -> str | None:
    if transcript.errors:
        return one_line(_telling(transcript), 500)
    if code < 0:
        return f"ended by {_signal_name(-code)}"
    if code > 0:
        words = (transcript.log or [line for line in said if line.strip()] or ["no message"])[-1]
        return f"exit code {code}: {one_line(words.strip(), 500)}"
    if not transcript.finish_reason:
        return "it ended without an answer"
    if transcript.finish_reason != "stop":
        return f"it stopped before it was finished ({one_line(transcript.finish_reason)})"
    return None


def _telling(transcript: Transcript) -> str:
    """The last error, or what the log has where the error itself says nothing."""
    last = transcript.errors[-1]
    return transcript.log[-1] if _HOLLOW in last and transcript.log else last


def _fix(agent: Agent, cause: str) -> str:
    lower = cause.lower()
    if any(sign in lower for sign in _NO_MODEL):
        return f"Correct the model's name in the workflow file: {agent.models}."
    if any(sign in lower for sign in _AUTH):
        return f"Check the key of this provider, or log in with `{agent.login}`."
    if _HOLLOW in cause:
        return f"Most often it does not know the model: {agent.models}."
    return ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
