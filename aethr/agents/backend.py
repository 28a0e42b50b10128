"""The backend of every agent: snapshot, run, end what is left running, snapshot again.

The prompt goes in on standard input and never into an argument list. Whatever happens in between, no
program that the agent has started is left running, and a failure says which files it had changed.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from aethr import snapshot
from aethr.agents import pipes, processtree, treelock, verdict
from aethr.agents.environment import Endpoint, access, reduced
from aethr.agents.events import Progress, Transcript, decode
from aethr.agents.kind import Agent, Run
from aethr.agents.probe import Installed, probe, skip_flag
from aethr.errors import (
    AethrError,
    AgentError,
    BudgetError,
    Interrupted,
    ProcessError,
    Terminated,
    UsageError,
)
from aethr.llm.spending import estimate_tokens
from aethr.providers import split
from aethr.records import Completion, ModelSpec, Notice, Request, TextDelta
from aethr.sanitize import one_line

TIMEOUT_S = 1800.0
"""Deadline of one step where its model sets no ``timeout_s``, in seconds."""

_LAST_WORDS = 20
_WORDS = 2000
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(slots=True)
class _Session:
    """One run of an agent: what was asked, and what has come back so far."""

    agent: Agent
    request: Request
    model: ModelSpec
    transcript: Transcript
    said: deque[str] = field(default_factory=lambda: deque(maxlen=_LAST_WORDS))
    ended: int = 0
    thorough: bool = True

    def feed(self, line: pipes.Line) -> Progress:
        """Take one line of output. Raises ``BudgetError`` when it passes what was left."""
        event = None if line.error else decode(line.text)
        if event is not None:
            yield from self.agent.read(event, self.transcript)
            _stay_within(self)
            return
        words = _COLOUR.sub("", line.text[:_WORDS].decode("utf-8", "replace"))
        self.said.append(words)
        if line.error:
            yield from self.agent.read_error(words, self.transcript)


class AgentBackend:
    """Runs one kind of agent, which gets of ``environ`` only what ``agents.environment`` lets through."""

    def __init__(self, agent: Agent, environ: Mapping[str, str]) -> None:
        self._agent = agent
        self._environ = environ
        self._installed: Installed | None = None

    def preflight(self, requests: Sequence[Request]) -> None:
        """Refuse a model it cannot use and an agent that is missing, not executable or too old.

        Raises ``UsageError`` or ``AgentError``.
        """
        if os.name != "posix":
            raise AgentError(
                f"{self._agent.name}: agent steps need Linux or macOS", "On Windows, run aethr inside of WSL."
            )
        for request in requests:
            _model(self._agent, request)
        for request in requests:
            installed = self._probed(request)
            if request.unsafe_permissions:
                skip_flag(self._agent, installed)

    def warm(self, requests: Sequence[Request]) -> None:
        """An agent starts when its step begins."""

    def complete(self, request: Request) -> Generator[TextDelta | Notice, None, Completion]:
        """Let the agent work. Raises ``AgentError``, ``BudgetError``, ``GitError``, ``DiskError``.

        Each of them, and an interruption, carries the files that the agent had changed before it.
        """
        model = _model(self._agent, request)
        installed = self._probed(request)
        transcript = Transcript(request.root.resolve())
        session = _Session(self._agent, request, model, transcript)
        _afford(session)
        with snapshot.opened(request.root, self._environ) as recorder, treelock.exclusive(recorder.top):
            before = snapshot.take(recorder)
            with _blaming(recorder, before):
                yield from self._run(session, installed)
            change = snapshot.since(recorder, before)
        return Completion(
            content=transcript.content,
            model=model.name,
            finish_reason=transcript.finish_reason,
            usage=transcript.usage,
            transport=f"{self._agent.name} {installed.version}",
            artifacts=change.artifacts,
            notes=(*_notes(session, changed=change.moved), *change.notes),
        )

    def _run(self, session: _Session, installed: Installed) -> Progress:
        """Start the agent, relay its events, and judge how it ended."""
        endpoint, notice = self._endpoint(session.model)
        if notice:
            yield notice
        argv = [installed.program, *self._agent.arguments(_run_of(session, installed)), *endpoint.options]
        env = self._reduced(session.request, session.model, endpoint)
        timeout_s = session.model.timeout_s or TIMEOUT_S
        with tempfile.TemporaryFile() as prompt:
            prompt.write(session.request.prompt.encode("utf-8", "replace"))
            prompt.seek(0)
            with processtree.running(argv, cwd=session.transcript.root, env=env, stdin=prompt) as tree:
                yield from _relayed(session, tree, timeout_s)
                code = tree.child.wait()
        error = verdict.failure(session.agent, session.request, session.transcript, code, tuple(session.said))
        if error is not None:
            raise error

    def _probed(self, request: Request) -> Installed:
        if self._installed is None:
            root = request.root.resolve()
            self._installed = probe(
                self._agent, reduced(self._environ, self._agent.own_prefix, {}, root), root
            )
        return self._installed

    def _reduced(self, request: Request, model: ModelSpec, endpoint: Endpoint) -> dict[str, str]:
        found = access(model.name, self._environ)
        name = self._agent.keys.get(split(model.name)[0], found.key_variable)
        key = {name: found.key} if found.key else {}
        return reduced(
            self._environ, self._agent.own_prefix, {**key, **endpoint.variables}, request.root.resolve()
        )

    def _endpoint(self, model: ModelSpec) -> tuple[Endpoint, Notice | None]:
        """How the agent is told an address of one's own; a warning where it cannot be told."""
        found = access(model.name, self._environ)
        if not found.base:
            return Endpoint(), None
        endpoint = self._agent.endpoint(split(model.name)[0], found.base)
        if endpoint.variables or endpoint.options:
            return endpoint, None
        text = f"{self._agent.name} does not read {found.base_variable}: its own configuration decides"
        return endpoint, Notice(text, "warning")


def _relayed(session: _Session, tree: processtree.Tree, timeout_s: float) -> Progress:
    session.thorough = tree.thorough

    def ended() -> None:
        session.ended = tree.end()

    try:
        for line in pipes.lines(tree.child, timeout_s, ended):
            yield from session.feed(line)
    except ProcessError as error:
        raise verdict.late(session.agent, session.request, session.transcript, timeout_s) from error


@contextmanager
def _blaming(recorder: snapshot.Shadow, before: snapshot.Snapshot) -> Iterator[None]:
    """Add to whatever ends the block early the files that were changed in it."""
    try:
        yield
    except AethrError as error:
        error.blame(_changed(recorder, before))
        raise
    except Terminated as stop:
        stop.changed_files = _changed(recorder, before)
        raise
    except KeyboardInterrupt as stop:
        raise Interrupted(_changed(recorder, before)) from stop


def _changed(recorder: snapshot.Shadow, before: snapshot.Snapshot) -> tuple[str, ...]:
    """The changed files, or none where they cannot be told: the first error is the one to report."""
    try:
        return snapshot.since(recorder, before).artifacts.changed_files
    except AethrError:
        return ()


def _run_of(session: _Session, installed: Installed) -> Run:
    provider, model = split(session.model.name)
    request = session.request
    return Run(
        step=request.step,
        provider=provider,
        model=model,
        root=session.transcript.root,
        skip_flag=skip_flag(session.agent, installed) if request.unsafe_permissions else "",
        options=installed.options,
    )


def _model(agent: Agent, request: Request) -> ModelSpec:
    """The step's model: an agent is always told one, or it would choose for itself."""
    if request.model is None:
        raise UsageError(
            f"step '{request.step}': {agent.name} needs a model for the role '{request.role}'",
            "Name one under 'models' in the workflow file, or set AETHR_MODEL.",
        )
    try:
        provider, _ = split(request.model.name)
    except ValueError as error:
        raise UsageError(f"step '{request.step}': {error}") from error
    if agent.providers and provider not in agent.providers:
        raise UsageError(
            f"step '{request.step}': {agent.name} cannot use {request.model.name}",
            f"Name a model of {' or '.join(agent.providers)}, or use the backend opencode.",
        )
    return request.model


def _afford(session: _Session) -> None:
    left, prompt = session.request.allowance, estimate_tokens(session.request.prompt)
    who = verdict.who(session.agent, session.request)
    if left.tokens is not None and prompt > left.tokens:
        raise BudgetError(
            f"{who} needs more than {prompt:,} tokens, {left.tokens:,} are left", "Raise --max-tokens."
        )
    if left.cost_usd is not None and not session.agent.tells_cost:
        raise BudgetError(
            f"{who} does not say what it costs, so --max-cost cannot hold", "Use --max-tokens instead."
        )
    if left.cost_usd is not None and left.cost_usd <= 0:
        raise BudgetError(f"{who}: nothing is left to spend", "Raise --max-cost.")


def _stay_within(session: _Session) -> None:
    """Stop an agent that has passed the rest of the run's allowance; its calls are its own to make."""
    left, used = session.request.allowance, session.transcript.usage
    who = verdict.who(session.agent, session.request)
    if left.tokens is not None and used.total_tokens is not None and used.total_tokens > left.tokens:
        raise BudgetError(
            f"{who} was stopped after {used.total_tokens:,} tokens, {left.tokens:,} were left",
            "Raise --max-tokens.",
        )
    if left.cost_usd is None or not session.transcript.spent:
        return
    if used.cost_usd is None:
        raise BudgetError(
            f"{who} does not say what it costs, so --max-cost cannot hold", "Use --max-tokens instead."
        )
    if used.cost_usd > left.cost_usd:
        raise BudgetError(
            f"{who} was stopped after ${used.cost_usd:.4f}, ${left.cost_usd:.4f} were left",
            "Raise --max-cost.",
        )


def _notes(session: _Session, *, changed: bool) -> Iterator[str]:
    if not changed:
        yield "the agent changed nothing"
    unsent = [
        name for name in ("temperature", "seed", "max_tokens") if getattr(session.model, name) is not None
    ]
    if unsent:
        yield f"{session.agent.name} takes no {', '.join(unsent)}: not sent"
    yield from map(one_line, dict.fromkeys(session.transcript.notes))
    if session.ended:
        yield f"{session.ended} programs that the agent had left running were ended"
    if not session.thorough:
        yield "this system has no /proc: programs that the agent started in the background may still run"
