"""The backend of every agent: snapshot, run, end what is left running, snapshot again.

The prompt goes in on standard input, never as an argument. However the run ends, no program that the agent
started is left running, and a failure says which files it had changed.
"""

from __future__ import annotations

import os
import re
import tempfile
import uuid
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from aethr import snapshot
from aethr.agents import Agent, Run, events, guidance, process_tree
from aethr.agents.events import Progress, Transcript, decode
from aethr.agents.program import Installed, access, filter_environment, find_skip_flag, probe
from aethr.base.errors import (
    AethrError,
    AgentError,
    BudgetError,
    GitError,
    Interrupted,
    ProcessError,
    Terminated,
    UsageError,
)
from aethr.base.providers import split
from aethr.base.records import (
    AttemptStarted,
    Baseline,
    Completion,
    Earlier,
    ModelSpec,
    Notice,
    Request,
    Sent,
    Spent,
    TextDelta,
)
from aethr.base.sanitize import one_line
from aethr.llm.spending import estimate_tokens
from aethr.snapshot import attempts

TIMEOUT_S = 1800.0
"""Default deadline of one step, in seconds."""

AGENT = "the agent"
SOMEBODY = "the agent, or somebody since its first attempt,"
"""Who changed the repository, if there was an earlier attempt: anybody may have in between."""

MEASURED = "measured from before the first attempt, so what was edited between the attempts is part of it"

SETTLE_S = 20.0
"""Seconds without a word after which an agent is ended that has answered, or whose first call was refused.

A program that it left in the background, or a server of its configuration, may keep it from ending."""

_LOST = f"what the failed attempt changed: {attempts.LOST}"
_LAST_WORDS = 20
_WORDS = 2000
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(slots=True)
class _Session:
    """One run of an agent: the request, and what the agent has said so far."""

    agent: Agent
    request: Request
    model: ModelSpec
    transcript: Transcript
    said: deque[str] = field(default_factory=lambda: deque(maxlen=_LAST_WORDS))
    ended: int = 0
    hung: bool = False
    thorough: bool = True
    excluded: tuple[str, ...] = ()

    def feed(self, line: process_tree.OutputLine, run: Run, folder: Path) -> Progress:
        """Take one line of output. Raises ``BudgetError`` when the agent exceeds the allowance."""
        event = None if line.error else decode(line.text)
        if event is not None:
            seen = self.transcript.delegated
            yield from self.agent.read(event, self.transcript)
            if self.transcript.delegated > seen and self.agent.delegated is not None:
                self.transcript.used["sub-agents"] = self.agent.delegated(folder)
            _check_usage(self)
            denied = self.transcript.denied
            # A login may be renewed after the first refusal; a key stays refused.
            if self.transcript.hopeless or len(denied) > 1 or (denied and run.key):
                raise _HopelessError
            return
        words = _COLOUR.sub("", line.text[:_WORDS].decode("utf-8", "replace"))
        self.said.append(words)
        if line.error and self.agent.read_error is not None:
            yield from self.agent.read_error(words, self.transcript)

    def is_over(self) -> bool:
        """Whether the agent has nothing left to do, so that its silence means that it does not end."""
        return self.transcript.finished or bool(self.transcript.denied and not self.transcript.used)


class _HopelessError(Exception):
    """The agent would repeat a failed call again and again."""


class AgentBackend:
    """Runs one agent of the table, which gets only what ``program.filter_environment`` lets through.

    ``settle_s`` is how many seconds it may say nothing once it has nothing left to do: see ``SETTLE_S``.
    """

    def __init__(self, agent: Agent, environ: Mapping[str, str], settle_s: float = SETTLE_S) -> None:
        self._agent = agent
        self._environ = environ
        self._settle_s = settle_s
        self._installed: Installed | None = None

    def preflight(self, requests: Sequence[Request]) -> None:
        """Refuse a model that the agent cannot use, and an agent that is missing, not executable or too old.

        Raises ``UsageError`` or ``AgentError``.
        """
        if os.name != "posix":
            raise AgentError(
                f"{self._agent.name}: agent steps need Linux or macOS", "On Windows, run aethr inside of WSL."
            )
        models = [_model(self._agent, request) for request in requests]
        for request, model in zip(requests, models, strict=True):
            installed = self._probe(request)
            self._command(self._run_of(request, model, installed), installed)

    def warm(self, requests: Sequence[Request]) -> None:
        """An agent starts when its step begins."""

    def complete(
        self, request: Request
    ) -> Generator[TextDelta | Notice | AttemptStarted | Sent | Spent, None, Completion]:
        """Run the agent. Raises ``AgentError``, ``BudgetError``, ``GitError``, ``DiskError``.

        Each error, and an interruption, lists the files that the agent had already changed. What earlier
        attempts left (``request.earlier``) is part of the change.
        """
        model = _model(self._agent, request)
        installed = self._probe(request)
        transcript = Transcript(request.root.resolve())
        session = _Session(self._agent, request, model, transcript)
        _check_allowance(session)
        objects = request.earlier and request.earlier.objects
        with (
            snapshot.open_shadow(request.root, self._environ, objects) as recorder,
            process_tree.exclusive(recorder.top),
        ):
            before = _take_before(recorder, request.earlier)
            yield AttemptStarted(before.baseline, before.own.look.head.commit, recorder.objects)
            prompt_bytes = len(request.prompt.encode("utf-8", "replace"))
            yield Sent(model.name, agent=self._agent.name, bytes_sent=prompt_bytes)
            with _blame_on_failure(recorder, before):
                try:
                    yield from self._run(session, installed)
                    change = _measure(recorder, before)
                    if not transcript.content.strip() and not change.moved:
                        who = events.who(self._agent, request)
                        raise AgentError(
                            f"{who}: the answer is empty, and nothing has changed",
                            "Make the task clearer, or use another model.",
                        )
                except AethrError:
                    if transcript.used:
                        yield Spent(transcript.usage)
                    raise
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
        run = self._run_of(session.request, session.model, installed)
        base = access(session.model, self._environ).base_variable
        if base and not run.own_address:
            text = f"{self._agent.name} does not read {base}: its own configuration decides"
            yield Notice(text, "warning")
        session.excluded = run.guidance.notes
        argv, env = self._command(run, installed)
        timeout_s = session.model.timeout_s or TIMEOUT_S
        with (
            tempfile.TemporaryDirectory(prefix="aethr-agent-", ignore_cleanup_errors=True) as name,
            tempfile.TemporaryFile() as prompt,
            self._agent.session(run, folder := Path(name).resolve()) as own,
        ):
            prompt.write(session.request.prompt.encode("utf-8", "replace"))
            prompt.seek(0)
            root = session.transcript.root
            with process_tree.running(argv, cwd=root, env={**env, **own}, stdin=prompt) as tree:
                session.thorough = tree.thorough

                def end_tree() -> None:
                    session.hung = tree.child.poll() is None
                    session.ended = tree.end()

                lines = process_tree.lines(tree.child, timeout_s, end_tree, session.is_over, self._settle_s)
                try:
                    for line in lines:
                        yield from session.feed(line, run, folder)
                except ProcessError as stop:
                    late = events.late(session.agent, session.request, session.transcript, timeout_s)
                    raise late from stop
                except _HopelessError:
                    end_tree()
                code = 0 if session.hung else tree.child.wait()
        error = events.failure(session.agent, session.request, session.transcript, code, tuple(session.said))
        if error is not None:
            raise error

    def _probe(self, request: Request) -> Installed:
        if self._installed is None:
            root = request.root.resolve()
            self._installed = probe(self._agent, filter_environment(self._environ, self._agent, root))
        return self._installed

    def _run_of(self, request: Request, model: ModelSpec, installed: Installed) -> Run:
        """What the row needs to know. Only a provider whose default address it has gets an address.

        Raises ``UsageError`` for a model with an endpoint that cannot be set.
        """
        agent, root = self._agent, request.root.resolve()
        provider, name = split(model.name)
        found = access(model, self._environ)
        within = guidance.folders(root)
        default = agent.addresses.get(provider, "")
        if model.endpoint is not None and not default:
            raise UsageError(
                f"step '{request.step}': {agent.name} calls {provider} where its own settings say",
                f"Remove `endpoint: {model.endpoint}`, or use a model of {' or '.join(agent.addresses)}.",
            )
        return Run(
            step=request.step,
            provider=provider,
            model=name,
            root=root,
            skip_flag=find_skip_flag(agent, installed) if request.unsafe_permissions else "",
            options=installed.options,
            folders=within,
            address=(found.base or default) if default else "",
            own_address=bool(found.base and default),
            key=agent.keys.get(provider, found.key_variable) if found.key else "",
            guidance=guidance.collect(agent, within),
            settings=filter_environment(self._environ, agent, root),
            allow=request.allow,
            budget_usd=request.allowance.cost_usd,
            session=str(uuid.uuid4()),
        )

    def _command(self, run: Run, installed: Installed) -> tuple[list[str], dict[str, str]]:
        """Arguments and environment: the user's settings and the one key; the row overrides both."""
        found = access(ModelSpec(f"{run.provider}:{run.model}"), self._environ)
        key = {run.key: found.key} if run.key else {}
        env = {**run.settings, **key, **self._agent.variables(run)}
        return [installed.program, *self._agent.arguments(run)], env


class _Before(NamedTuple):
    """The work tree before the ``first`` attempt, where the step's change begins, and before this one.

    ``baseline`` is what outlives this process of the first. ``unseen`` says in one line what earlier attempts
    changed that cannot be shown.
    """

    first: snapshot.Snapshot
    own: snapshot.Snapshot
    baseline: Baseline
    unseen: str = ""


def _take_before(recorder: snapshot.Shadow, earlier: Earlier | None) -> _Before:
    unseen = earlier.loss if earlier is not None else ""
    baseline = earlier.attempt.baseline if earlier is not None else None
    if baseline is not None and not unseen:
        try:
            return _Before(*snapshot.restore(recorder, baseline), baseline)
        except GitError:
            unseen = _LOST
    own = snapshot.take(recorder)
    return _Before(own, own, snapshot.baseline(recorder, own), unseen)


def _measure(recorder: snapshot.Shadow, before: _Before) -> snapshot.Difference:
    """The change since before the first attempt or, if that cannot be compared, since before this one."""
    unseen = before.unseen
    resumed = before.first is not before.own
    try:
        change = snapshot.since(recorder, before.first, SOMEBODY if resumed else AGENT)
    except GitError:
        if not resumed:
            raise
        resumed, unseen = False, _LOST
        change = snapshot.since(recorder, before.own)
    notes = (unseen,) if unseen else (MEASURED,) if resumed and change.artifacts.changed_files else ()
    return snapshot.Difference(
        change.artifacts._replace(unseen=(*change.artifacts.unseen, *filter(None, [unseen]))),
        (*notes, *change.notes),
        moved=change.moved or bool(unseen),
    )


@contextmanager
def _blame_on_failure(recorder: snapshot.Shadow, before: _Before) -> Iterator[None]:
    """Add the changed files to any error or interruption of the block."""
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


def _changed(recorder: snapshot.Shadow, before: _Before) -> tuple[str, ...]:
    """The changed files; empty if they cannot be found, because the first error is the one to report."""
    try:
        return _measure(recorder, before).artifacts.changed_files
    except AethrError:
        return ()


def _model(agent: Agent, request: Request) -> ModelSpec:
    """The step's model. It is required: without one the agent would choose for itself."""
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


def _check_allowance(session: _Session) -> None:
    """Refuse to start if the prompt alone exceeds the allowance, or the cost cannot be known."""
    left, prompt = session.request.allowance, estimate_tokens(session.request.prompt)
    who = events.who(session.agent, session.request)
    if left.tokens is not None and prompt > left.tokens:
        raise BudgetError(
            f"{who} needs more than {prompt:,} tokens, {left.tokens:,} are left", "Raise --max-tokens."
        )
    if left.cost_usd is not None and session.agent.reports_cost == "never":
        raise BudgetError(
            f"{who} does not report its cost, so --max-cost cannot be enforced", "Use --max-tokens instead."
        )
    if left.cost_usd is not None and left.cost_usd <= 0:
        raise BudgetError(f"{who}: nothing is left to spend", "Raise --max-cost.")


def _check_usage(session: _Session) -> None:
    """Stop an agent that has exceeded the allowance. It makes its own calls: this shows only afterwards.

    If it has finished, its work is kept: what follows in the run is stopped.
    """
    if session.transcript.finished or session.transcript.closing:
        return
    left, used = session.request.allowance, session.transcript.usage
    who = events.who(session.agent, session.request)
    if left.tokens is not None and used.total_tokens is not None and used.total_tokens > left.tokens:
        raise BudgetError(
            f"{who} was stopped after {used.total_tokens:,} tokens, {left.tokens:,} were left",
            "Raise --max-tokens.",
        )
    if left.cost_usd is None or not session.transcript.used or session.agent.reports_cost != "each call":
        return
    if used.cost_usd is None:
        raise BudgetError(
            f"{who} does not report its cost, so --max-cost cannot be enforced", "Use --max-tokens instead."
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
    if session.transcript.refused:
        refused = one_line(events.list_refused(session.transcript), 500)
        yield f"permission refused: {refused}; `allow` in the step permits commands"
    yield from map(one_line, dict.fromkeys((*session.excluded, *session.transcript.notes)))
    if session.hung:
        yield f"{session.agent.name} had finished but did not end, so it was ended"
    if left := session.ended - session.hung:
        yield f"{left} programs that the agent left running were ended"
    if not session.thorough:
        yield "programs that the agent started in the background may still run: this system lacks /proc"
