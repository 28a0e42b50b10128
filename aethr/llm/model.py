"""The backend ``model``: one call to a model, with retries if they can help, and how the answer ended.

Local model servers silently cut a prompt that is longer than their window (Ollama keeps some four tokens of
its beginning and about the last half of the window). The tokens that a server counted show it.
"""

from __future__ import annotations

import contextlib
import math
import re
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence

from aethr.base import network
from aethr.base.errors import BudgetError, ModelError, UsageError
from aethr.base.network import Hosts
from aethr.base.providers import PROVIDERS, chain, litellm_name, provider_of, split
from aethr.base.records import Completion, ModelSpec, Notice, Request, Sent, Spent, TextDelta, Thinking, Usage
from aethr.base.words import suggest
from aethr.llm import (
    ATTEMPTS,
    FINISHED,
    Call,
    CallFailed,
    Chunk,
    Deadlines,
    Endpoint,
    FailureKind,
    routes,
)
from aethr.llm.arriving import Arriving
from aethr.llm.connection import Feed, Overdue, Silent
from aethr.llm.failures import explain, headline, tidy, too_long
from aethr.llm.protocols import chat
from aethr.llm.refusals import refused_option, refused_setting
from aethr.llm.routes import address_of, endpoint_of
from aethr.llm.spending import (
    answer_tokens,
    estimate_tokens,
    estimated_usage,
    limit_notes,
    lookup,
    over_limit,
    repriced_by,
    served_as,
)

DEADLINES = Deadlines()
BACKOFF_S = (1.0, 2.0)
"""Waits before the second and the third attempt, unless the provider says how long."""
LONGEST_WAIT_S = 60.0

RETRIED: frozenset[FailureKind] = frozenset(
    {"rate_limit", "server", "connection", "lost", "timeout", "cut", "broken"}
)
ACCEPTED: frozenset[FailureKind] = frozenset({"lost", "broken"})
"""Failures after which the server had accepted the request, and each retry is paid for."""
VAGUE: frozenset[FailureKind] = frozenset({"empty", "garbage"})
"""Failures of a stream that brings nothing: the same request without streaming may find the reason."""


class ModelBackend:
    """Calls models, each through its transport. ``environ`` has the keys and endpoints."""

    def __init__(
        self,
        environ: Mapping[str, str],
        route: routes.Route,
        deadlines: Deadlines = DEADLINES,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._environ = environ
        self._route = route
        self._deadlines = deadlines
        self._sleep = sleep
        self._clock = clock
        self._pace = _Pace(clock)

    def preflight(self, requests: Sequence[Request]) -> None:
        """Check names, packages, keys, endpoints and proxies of all models. Raises ``UsageError``."""
        proxies = network.proxies(self._environ)
        network.check_certificates(self._environ)
        called = [model for request in requests for model in chain(_model(request))]  # all names before keys
        for name, endpoint in dict.fromkeys((model.name, model.endpoint) for model in called):
            self._route(name)
            provider = split(name)[0]
            if provider not in PROVIDERS:
                from aethr.llm.transport_litellm import providers

                known = providers()
                if litellm_name(name).partition("/")[0] not in known:
                    close, listed = suggest(provider, [*PROVIDERS, *sorted(known)]), ", ".join(PROVIDERS)
                    raise UsageError(
                        f"'{name}': no provider named '{provider}'{close}",
                        fix=f"Name a model as provider:model: {listed} or any LiteLLM provider.",
                    )
            if (package := routes.missing_package(name, self._environ)) is not None:
                fix = f"Run `{package.command}` in the environment of aethr."
                raise UsageError(f"{name}: the package {package.name} is not installed", fix)
            base = address_of(name, endpoint_of(ModelSpec(name, endpoint=endpoint), self._environ))
            if base is not None and (proxy := proxies.on_the_way_to(base)) is not None:
                proxy.require()

    def warm(self, requests: Sequence[Request]) -> None:
        """Start the imports that the calls need, in a thread."""
        routes.load_ahead(self._route(_model(request).name) for request in requests)

    def complete(
        self, request: Request
    ) -> Generator[TextDelta | Thinking | Sent | Spent | Notice, None, Completion]:
        """Stream one answer, of the model or else of its fallbacks in order.

        Raises ``ModelError``, ``BudgetError``, ``UsageError``. A fallback is called after a ``Notice``, and
        only if the model before it has said nothing, and could not be reached or had no capacity.
        """
        first = _model(request)
        model, *others = chain(first)
        used, reasons = list[Usage](), list[str]()
        while True:
            try:
                answer = yield from self._complete(request._replace(model=model), used)
                break
            except _UnansweredError as unanswered:
                if not others:
                    raise unanswered.error from unanswered.failure
                reasons.append(_name(model, unanswered.failure))
                model = others.pop(0)
                yield Notice(f"{reasons[-1]}; asking {model.name} instead", "warning")
        if not reasons:
            return answer
        note = f"{'; '.join(reasons)}; {model.name} answered instead"
        return answer._replace(fallback_for=first.name, notes=(note, *answer.notes))

    def _complete(
        self, asked: Request, used: list[Usage]
    ) -> Generator[TextDelta | Thinking | Sent | Spent | Notice, None, Completion]:
        """Stream one answer of the request's model. ``used`` is what failed attempts have used, also these.

        A failed attempt is retried after a ``Notice`` if that can help: at most ``ATTEMPTS`` in all, and only
        once after the server had accepted the request. If a stream brought nothing, the same is requested
        once without streaming. A setting that the provider refuses by name is left out. If an endpoint is
        busy, all calls to it wait. Raises ``_UnansweredError`` if a fallback may be called.
        """
        model, request = _model(asked), asked.after(*used) if used else asked
        self._check_window(request, model)
        with contextlib.suppress(Exception):  # the call meets the same error, and reports it
            self._route(model.name).load()  # imports do not count in the model's time
        endpoint = endpoint_of(model, self._environ)
        self._wait_for_turn(endpoint, request)
        ends_at = self._clock() + (model.timeout_s or self._deadlines.whole_s)
        history, sent_bytes = _History(), len(request.prompt.encode("utf-8", "replace"))
        while True:
            answer, call = Arriving(), self._call(request, model, ends_at, history)
            yield Sent(model.name, routes.host_of(model.name, endpoint), bytes_sent=sent_bytes)
            try:
                yield from self._attempt(call, answer, ends_at, request.cancelled)
                return self._completion(request, call, answer, history)
            except CallFailed as caught:
                failure = caught
            counted, spent = _count_failed(failure, request, call, answer)
            if counted is not None:
                yield Spent(counted)
            if spent is not None:
                began = self._clock()
                used.append(spent)
                request = asked.after(*used)
                ends_at += self._clock() - began  # a wait for other calls is not this call's
            if history.attempts_left and self._may_help_unstreamed(failure, request, call, answer):
                history.streamed = failure
                history.attempts += 1
                notice = f"{model.name}: {headline(failure)}; retrying once without streaming"
                yield Notice(notice, "warning")
                continue
            if (setting := refused_setting(call, failure)) is not None:
                notice = history.leave_out(setting, call)
                yield Notice(notice, "warning")
                continue
            history.has_text = history.has_text or answer.length > 0
            wait = self._wait(failure, history, answer, ends_at)
            if wait is None:
                failure = history.choose(failure)
                raise _give_up(failure, request, call, has_text=history.has_text) from failure
            yield Notice(_describe_retry(model, failure, answer, wait, history.attempts + 1), kind="warning")
            history.add(failure, answer)
            until = self._pace.slow_down(endpoint, wait) if failure.is_busy else 0.0
            self._sleep(wait)
            began = self._clock()
            self._wait_for_turn(endpoint, request, until)
            ends_at += self._clock() - began

    def _wait_for_turn(self, endpoint: Endpoint, request: Request, since: float = 0.0) -> None:
        """Wait until the endpoint may be called; a call that has waited until ``since`` need not wait again.

        Raises ``ModelError`` if the run has stopped meanwhile.
        """
        while (until := self._pace.until(endpoint, since)) is not None and not request.cancelled():
            self._sleep(max(0.0, until - self._clock()))
            since = until
        if request.cancelled():
            raise ModelError("the run was stopped")

    def _attempt(
        self, call: Call, answer: Arriving, ends_at: float, cancelled: Callable[[], bool]
    ) -> Generator[TextDelta | Thinking, None, None]:
        """One request and its answer. An error after the complete answer becomes a note."""
        try:
            with contextlib.closing(Feed(self._route(call.model.name), call, cancelled)) as feed:
                while (chunk := self._next(feed, call, answer, ends_at)) is not None:
                    if text := answer.add(chunk):
                        yield TextDelta(text)
                    elif chunk == Chunk() and not answer.length:
                        yield Thinking()
        except CallFailed as failure:
            if not answer.complete:
                raise
            if failure.kind != "silent":
                late = tidy(failure.message, [call.endpoint.key or ""])
                answer.notes.append(f"an error after the end of the answer: {late}")
        if tail := answer.finish():
            yield TextDelta(tail)
        answer.check()

    def _next(self, feed: Feed, call: Call, answer: Arriving, ends_at: float) -> Chunk | None:
        limits = self._deadlines
        silence_s = limits.linger_s if answer.complete else limits.silence_s if answer.length else math.inf
        try:
            return feed.next(ends_at - self._clock(), silence_s)
        except Overdue:
            limit = call.model.timeout_s or limits.whole_s
            raise CallFailed("deadline", f"the whole call took longer than {limit:g} s") from None
        except Silent:
            cause = f"{silence_s:g} s of silence after {answer.length:,} characters"
            raise CallFailed("silent", cause) from None

    def _wait(self, failure: CallFailed, history: _History, answer: Arriving, ends_at: float) -> float | None:
        """Seconds until the next attempt; None if there must not be one."""
        accepted = failure.kind in ACCEPTED or answer.length > 0
        retried = failure.kind in RETRIED if failure.retry is None else failure.retry
        if not retried or not history.attempts_left or (accepted and history.repeated):
            return None
        if failure.retry_after_s is not None and failure.retry_after_s > LONGEST_WAIT_S:
            failure.message += f" (it asks to wait {failure.retry_after_s:,.0f} s)"
            return None
        wait = BACKOFF_S[history.attempts - 1] if failure.retry_after_s is None else failure.retry_after_s
        return wait if self._clock() + wait < ends_at else None

    def _completion(self, request: Request, call: Call, answer: Arriving, history: _History) -> Completion:
        usage, notes = _priced(answer.usage or Usage(), call.model), [*history.notes, *answer.notes]
        if usage.total_tokens is None:
            note = "the provider sent no token counts"
            if own_server(call):
                note += ": whether it read the whole prompt is not known"
            if request.allowance.tokens is not None or request.allowance.cost_usd is not None:
                answered = estimate_tokens(answer.text)
                usage = estimated_usage(request.prompt, answered, call.model.name)
                note += "; these are estimates by length"
            notes.append(note)
        reason = answer.finish_reason or ""
        truncated = reason.lower() not in FINISHED
        notes += limit_notes(request, call.max_tokens, truncated=truncated)
        if over := over_limit(usage, call.max_tokens):
            notes.append(f"the server {over}")
        cut = cut_prompt(request.prompt, answer.usage) if answer.usage is not None else None
        if cut and not request.reviewing:
            notes.append(f"the server did not read the whole prompt: {cut}")
        return Completion(
            content=answer.text,
            model=call.model.name,
            finish_reason=reason,
            truncated=truncated,
            usage=usage,
            transport=self._route(call.model.name).name,
            notes=tuple(notes),
            cut_prompt=cut,
            over_limit=over,
        )

    def _may_help_unstreamed(
        self, failure: CallFailed, request: Request, call: Call, answer: Arriving
    ) -> bool:
        """Whether the same request without streaming may be answered, or bring the reason for the failure.

        LM Studio ends a stream without a word if the prompt is longer than its window:
        https://github.com/lmstudio-ai/lmstudio-bug-tracker/issues/2339
        """
        nothing = failure.kind in VAGUE and answer.ended and not answer.text.strip()
        own = provider_of(call.model.name).protocols and own_server(call)
        if failure.kind != "no_stream" and not (nothing and own):
            return False
        try:
            answer_tokens(request)
        except BudgetError:
            return False
        return True

    def _call(self, request: Request, model: ModelSpec, ends_at: float, history: _History) -> Call:
        left = max(0.1, ends_at - self._clock())  # a timeout of 0 would make the socket non-blocking
        limits = self._deadlines._replace(whole_s=left, connect_s=min(left, self._deadlines.connect_s))
        return Call(
            prompt=request.prompt,
            model=model._replace(name=served_as(model.name)),
            endpoint=endpoint_of(model, self._environ),
            deadlines=limits,
            max_tokens=answer_tokens(request),
            stream=history.streamed is None,
            left_out=history.left_out,
            schema=request.schema,
            shared=request.shared,
            hosts=Hosts.of(request.hosts) if request.hosts else None,
        )

    def _check_window(self, request: Request, model: ModelSpec) -> None:
        """Count exactly only if the prompt may be too long by its length. Raises ``ModelError``."""
        price = lookup(model.name)
        window = price.window if price is not None else None
        if window is None or estimate_tokens(request.prompt) <= window:
            return
        from aethr.llm.transport_litellm import count_tokens  # it has the tokenizers, also for a direct call

        tokens = count_tokens(model.name, request.prompt)
        if tokens > window:
            raise too_long(request.step, model.name, tokens, window)


class _Pace:
    """When a busy endpoint may be called again, for all calls to it. Safe from any thread.

    An endpoint that has refused a call for now gets no request before the time that it named. The calls that
    wait then follow each other at that distance, because the limits of providers refill steadily: together
    they would be refused again.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._busy: dict[Endpoint, tuple[float, float]] = {}  # not before, and the distance after it

    def slow_down(self, endpoint: Endpoint, wait_s: float) -> float:
        """No call before ``wait_s`` seconds from now; return that time."""
        with self._lock:
            until, now = self._busy.get(endpoint, (0.0, 0.0))[0], self._clock()
            self._busy[endpoint] = max(until, now + wait_s), wait_s
            return now + wait_s

    def until(self, endpoint: Endpoint, since: float) -> float | None:
        """When a call that has waited until ``since`` may be made; None if that is now, and its turn."""
        with self._lock:
            until, distance = self._busy.get(endpoint, (0.0, 0.0))
            now = max(since, self._clock())
            if until > now:
                return until
            if since:  # it had to wait, so others may wait too
                self._busy[endpoint] = now + distance, distance
            return None


class _History:
    """The attempts of a call so far.

    ``streamed`` is how the stream failed, once the request is made without one; ``repeated`` is True once a
    request that the server had accepted has been made again, ``has_text`` once an attempt has shown text.
    ``left_out`` are the settings that the provider refused by name.
    """

    def __init__(self) -> None:
        self.attempts = 1
        self.notes: tuple[str, ...] = ()
        self.streamed: CallFailed | None = None
        self.repeated = False
        self.left_out: frozenset[str] = frozenset()
        self.has_text = False

    @property
    def attempts_left(self) -> bool:
        """Whether one more attempt may be made; one without streaming is the last."""
        return self.streamed is None and self.attempts < ATTEMPTS

    def add(self, failure: CallFailed, answer: Arriving) -> None:
        """Count the next attempt, which follows ``failure``."""
        self.attempts += 1
        self.repeated = self.repeated or failure.kind in ACCEPTED or answer.length > 0
        if answer.length:
            broken = f"the stream broke once after {answer.length:,} characters"
            self.notes += (f"{broken}; that part was paid for too",)

    def leave_out(self, setting: str, call: Call) -> str:
        """Leave a setting out of the next request, which is not another attempt; return a note about it."""
        self.left_out |= {setting}
        note = f"{call.model.name} does not take {setting}: asked again without it"
        if setting == "max_tokens":
            first, other = (chat.limit_name(each) for each in (call, call._replace(left_out=self.left_out)))
            note = f"{call.model.name} does not take {first}: asked again with {other}"
        self.notes += (note,)
        return note

    def choose(self, failure: CallFailed) -> CallFailed:
        """The failure to report: with and without streaming, the one that gives a reason."""
        vague = failure.kind in VAGUE or failure.kind in ("deadline", "lost")
        return self.streamed if self.streamed is not None and vague else failure


class _UnansweredError(Exception):
    """A model has said nothing, for a reason that lets its fallback be called. ``error`` is for the user."""

    def __init__(self, failure: CallFailed, error: ModelError) -> None:
        super().__init__(str(error))
        self.failure = failure
        self.error = error


def _give_up(
    failure: CallFailed, request: Request, call: Call, *, has_text: bool
) -> ModelError | _UnansweredError:
    """The error after the last attempt: with advice for the user, or to call a fallback instead."""
    if failure.kind == "all_thought":
        limits = limit_notes(request, call.max_tokens, truncated=True)
        failure.message = "; ".join((failure.message, *limits))
    if (option := refused_option(call, failure)) is not None:
        failure.message += f" ('{option}' is one of the model's options)"
    assert request.model is not None
    error = explain(failure, request.model.name, call.endpoint)
    return _UnansweredError(failure, error) if failure.allows_fallback and not has_text else error


def own_server(call: Call) -> bool:
    """Whether the call goes to the user's own server, not to a provider's."""
    provider = provider_of(call.model.name)
    return provider.own_server or not provider.is_at(call.endpoint.base)


def _count_failed(
    failure: CallFailed, request: Request, call: Call, answer: Arriving
) -> tuple[Usage | None, Usage | None]:
    """What a failed attempt used, for the record and for the budget. None: nothing is known of it.

    An answer that ended by its limit, all of it thinking, used all of that. A text that broke off is only
    estimated for the budget.
    """
    counted = _priced(answer.usage, call.model) if answer.usage is not None else None
    if counted is None and failure.kind == "all_thought":
        counted = estimated_usage(request.prompt, call.max_tokens, call.model.name)
    if counted is None and answer.length:
        return None, estimated_usage(request.prompt, estimate_tokens(answer.text), call.model.name)
    return counted, counted


def _priced(usage: Usage, model: ModelSpec) -> Usage:
    """The usage, without its cost if an option of the model changes the price."""
    return usage._replace(cost_usd=None) if repriced_by(model) else usage


def _model(request: Request) -> ModelSpec:
    """The model of a step. Raises ``UsageError`` if it has none, or one without a provider."""
    if request.model is None:
        raise UsageError(
            f"step '{request.step}': role '{request.role}' has no model",
            fix=f"Add a model for '{request.role}' under models:, or set AETHR_MODEL=provider:model.",
        )
    try:
        split(request.model.name)
    except ValueError as error:
        raise UsageError(f"step '{request.step}': {error}", fix="Name a model as provider:model.") from error
    return request.model


def _describe_retry(
    model: ModelSpec, failure: CallFailed, answer: Arriving, wait: float, attempt: int
) -> str:
    count = f"({attempt}/{ATTEMPTS})"
    if answer.length:
        return (
            f"{model.name}: the stream broke after {answer.length:,} characters; "
            f"retrying in {wait:g} s, the answer starts over {count}"
        )
    return f"{_name(model, failure)}; retrying in {wait:g} s {count}"


def _name(model: ModelSpec, failure: CallFailed) -> str:
    """Which model failed and how, in a few words: ``openai:gpt-5.4-mini answered 429``."""
    colon = "" if failure.status else ":"
    return f"{model.name}{colon} {headline(failure)}"


MEANINGFUL = 8192
"""In characters: for a shorter prompt the comparison means little, and few windows are so small."""
PER_TOKEN = 8
"""Characters per token: more than in any text of that length, with any tokenizer.

Prose and code have three to five in the largest vocabularies (200,000 to 260,000 tokens), text beyond ASCII
has fewer, so characters are counted and not bytes. Only a run of one letter, such as the indentation of code
or a ruled line, has more: a run counts as at most one token's characters.
"""
WAY_OUT = (
    "raise the server's window (OLLAMA_CONTEXT_LENGTH for Ollama), or lower limits.context_chars "
    "or the step's context_chars"
)
_RUN = re.compile(rf"(.)\1{{{PER_TOKEN},}}", re.DOTALL)


def cut_prompt(prompt: str, usage: Usage) -> str | None:
    """The evidence that the server read only a part of ``prompt``; None if it may have read all of it.

    A count of zero is ignored: some servers omit the count of a prompt that they have in their cache.
    """
    counted = usage.prompt_tokens
    if not counted or len(prompt) < MEANINGFUL:
        return None
    if counted * PER_TOKEN >= sum(map(len, _RUN.split(prompt)[::2])) + PER_TOKEN * len(_RUN.findall(prompt)):
        return None
    return f"the server counted {counted:,} tokens for {len(prompt):,} characters; {WAY_OUT}"
