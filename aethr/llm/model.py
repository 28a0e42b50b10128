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
from aethr.base.providers import PROVIDERS, litellm_name, provider_of, split
from aethr.base.records import Completion, ModelSpec, Notice, Request, Spent, TextDelta, Thinking, Usage
from aethr.base.words import suggest
from aethr.llm import (
    ATTEMPTS,
    FINISHED,
    LENGTH,
    REFUSED,
    Call,
    CallFailed,
    Chunk,
    Deadlines,
    Endpoint,
    FailureKind,
    routes,
)
from aethr.llm.connection import Feed, Overdue, Silent
from aethr.llm.failures import explain, headline, tidy, too_long
from aethr.llm.protocols import refused_setting
from aethr.llm.routes import address_of, endpoint_of
from aethr.llm.spending import (
    answer_tokens,
    estimate_tokens,
    estimated_usage,
    is_plausible,
    limit_notes,
    lookup,
    over_limit,
)

DEADLINES = Deadlines()
BACKOFF_S = (1.0, 2.0)
"""Waits before the second and the third attempt, unless the provider says how long."""
LONGEST_WAIT_S = 60.0
LONGEST_ANSWER = 8_000_000
"""In characters: no model writes so much, so a server that sends more is broken."""

RETRIED: frozenset[FailureKind] = frozenset({"rate_limit", "server", "connection", "lost", "timeout", "cut"})
BUSY = frozenset({429, 503, 529})
"""Statuses with which a server asks for fewer requests; 529 is Anthropic's."""
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
        """Check names, providers, keys, endpoints and proxies of all models. Raises ``UsageError``."""
        proxies = network.proxies(self._environ)
        network.check_certificates(self._environ)
        for name in dict.fromkeys([_model(request).name for request in requests]):  # all names before keys
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
            base = address_of(name, endpoint_of(name, self._environ))
            if base is not None and (proxy := proxies.on_the_way_to(base)) is not None:
                proxy.require()

    def warm(self, requests: Sequence[Request]) -> None:
        """Start the imports that the calls need, in a thread."""
        routes.load_ahead(self._route(_model(request).name) for request in requests)

    def complete(
        self, request: Request
    ) -> Generator[TextDelta | Thinking | Spent | Notice, None, Completion]:
        """Stream one answer. Raises ``ModelError``, ``BudgetError``, ``UsageError``.

        A failed attempt is retried after a ``Notice`` if that can help: at most ``ATTEMPTS`` in all, and only
        once after the server had accepted the request. If a stream brought nothing, the same is requested
        once without streaming. A setting that the provider refuses by name is left out. If an endpoint is
        busy, all calls to it wait.
        """
        model = _model(request)
        self._check_window(request, model)
        with contextlib.suppress(Exception):  # the call meets the same error, and reports it
            self._route(model.name).load()  # imports do not count in the model's time
        endpoint = endpoint_of(model.name, self._environ)
        self._wait_for_turn(endpoint, request)
        ends_at = self._clock() + (model.timeout_s or self._deadlines.whole_s)
        history, asked, used = _History(), request, list[Usage]()
        while True:
            answer, call = _Answer(), self._call(request, model, ends_at, history)
            try:
                yield from self._attempt(call, answer, ends_at, request.cancelled)
                return self._completion(request, call, answer, history)
            except CallFailed as caught:
                failure = caught
            spent = answer.usage
            if spent is not None:
                yield Spent(spent)
            elif answer.length:
                spent = estimated_usage(request.prompt, answer.text, model.name)
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
            if not answer.length and (setting := refused_setting(call, failure)) is not None:
                history.left_out |= {setting}
                note = f"{model.name} does not take {setting}: asked again without it"
                history.notes += (note,)
                yield Notice(note, "warning")
                continue
            wait = self._wait(failure, history, answer, ends_at)
            if wait is None:
                failure = history.choose(failure)
                raise explain(failure, model.name, call.endpoint) from failure
            yield Notice(_describe_retry(model, failure, answer, wait, history.attempts + 1), kind="warning")
            history.add(failure, answer)
            busy = failure.kind == "rate_limit" or failure.status in BUSY
            until = self._pace.slow_down(endpoint, wait) if busy else 0.0
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
        self, call: Call, answer: _Answer, ends_at: float, cancelled: Callable[[], bool]
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

    def _next(self, feed: Feed, call: Call, answer: _Answer, ends_at: float) -> Chunk | None:
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

    def _wait(self, failure: CallFailed, history: _History, answer: _Answer, ends_at: float) -> float | None:
        """Seconds until the next attempt; None if there must not be one."""
        accepted = failure.kind == "lost" or answer.length > 0  # and is paid for each time
        if failure.kind not in RETRIED or not history.attempts_left or (accepted and history.repeated):
            return None
        if failure.retry_after_s is not None and failure.retry_after_s > LONGEST_WAIT_S:
            failure.message += f" (it asks to wait {failure.retry_after_s:,.0f} s)"
            return None
        wait = BACKOFF_S[history.attempts - 1] if failure.retry_after_s is None else failure.retry_after_s
        return wait if self._clock() + wait < ends_at else None

    def _completion(self, request: Request, call: Call, answer: _Answer, history: _History) -> Completion:
        usage, notes = answer.usage or Usage(), [*history.notes, *answer.notes]
        if usage.total_tokens is None:
            note = "the provider sent no token counts"
            if own_server(call):
                note += ": whether it read the whole prompt is not known"
            if request.allowance.tokens is not None or request.allowance.cost_usd is not None:
                usage = estimated_usage(request.prompt, answer.text, call.model.name)
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
        self, failure: CallFailed, request: Request, call: Call, answer: _Answer
    ) -> bool:
        """Whether the same request without streaming may be answered, or bring the reason for the failure.

        LM Studio ends a stream without a word if the prompt is longer than its window:
        https://github.com/lmstudio-ai/lmstudio-bug-tracker/issues/2339
        """
        if not provider_of(call.model.name).protocols:  # only here is ``stream`` a part of the body
            return False
        nothing = failure.kind in VAGUE and answer.ended and not answer.text.strip()
        if failure.kind != "no_stream" and not (nothing and own_server(call)):
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
            model=model,
            endpoint=endpoint_of(model.name, self._environ),
            deadlines=limits,
            max_tokens=answer_tokens(request),
            stream=history.streamed is None,
            left_out=history.left_out,
            schema=request.schema,
            shared=request.shared,
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
    request that the server had accepted has been made again. ``left_out`` are the settings that the provider
    refused by name.
    """

    def __init__(self) -> None:
        self.attempts = 1
        self.notes: tuple[str, ...] = ()
        self.streamed: CallFailed | None = None
        self.repeated = False
        self.left_out: frozenset[str] = frozenset()

    @property
    def attempts_left(self) -> bool:
        """Whether one more attempt may be made; one without streaming is the last."""
        return self.streamed is None and self.attempts < ATTEMPTS

    def add(self, failure: CallFailed, answer: _Answer) -> None:
        """Count the next attempt, which follows ``failure``."""
        self.attempts += 1
        self.repeated = self.repeated or failure.kind == "lost" or answer.length > 0
        if answer.length:
            broken = f"the stream broke once after {answer.length:,} characters"
            self.notes += (f"{broken}; that part was paid for too",)

    def choose(self, failure: CallFailed) -> CallFailed:
        """The failure to report: with and without streaming, the one that gives a reason."""
        vague = failure.kind in VAGUE or failure.kind in ("deadline", "lost")
        return self.streamed if self.streamed is not None and vague else failure


class _Answer:
    """An answer as it grows, ``length`` in characters. Half of a surrogate pair waits for its other half.

    ``ended`` is True once its stream has ended.
    """

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.notes: list[str] = []
        self.ended = False
        self._pieces: list[str] = []
        self._refusal = ""
        self.length = 0
        self._half = ""

    @property
    def complete(self) -> bool:
        """Whether it has text, and the provider has said that this is the end."""
        return bool(self.finish_reason and self.finish_reason.lower() != "error" and self.text.strip())

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    def add(self, chunk: Chunk) -> str:
        """Take a chunk; return the text that can be shown."""
        if self.finish_reason is None or self.finish_reason.lower() in FINISHED:
            self.finish_reason = chunk.finish_reason or self.finish_reason  # a later word does not undo a cut
        if chunk.usage is not None and is_plausible(chunk.usage):
            self.usage = chunk.usage
        if chunk.note:
            self.notes.append(chunk.note)
        self._refusal += chunk.refusal
        text = self._half + chunk.text
        self._half = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
        return self._keep(text[: len(text) - len(self._half)])

    def finish(self) -> str:
        """End the stream; return the text that was held back."""
        self.ended = True
        half, self._half = self._half, ""
        return self._keep(half)

    def check(self) -> None:
        """Raise ``CallFailed`` unless this is a finished answer."""
        reason = (self.finish_reason or "").lower()
        if reason == "error":
            raise CallFailed("server", "the answer ended with an error")
        if self._refusal.strip():
            raise CallFailed("refusal", self._refusal)
        if not reason and self.length:
            raise CallFailed(
                "cut", f"the stream ended without a finish reason after {self.length:,} characters"
            )
        if not reason:
            raise CallFailed("garbage", "it ended without any text")
        if self.text.strip():
            return
        if reason in LENGTH:
            count = f"{self.usage.completion_tokens:,} " if self.usage else ""
            raise CallFailed("all_thought", f"all {count}answer tokens went to thinking")
        raise CallFailed(REFUSED.get(reason, "empty"), f"no text, finish reason '{self.finish_reason}'")

    def _keep(self, text: str) -> str:
        whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        self._pieces.append(whole)
        self.length += len(whole)
        if self.length > LONGEST_ANSWER:
            raise CallFailed("garbage", f"it is longer than {LONGEST_ANSWER:,} characters")
        return whole


def own_server(call: Call) -> bool:
    """Whether the call goes to the user's own server, not to a provider's."""
    provider = provider_of(call.model.name)
    return provider.own_server or not provider.is_at(call.endpoint.base)


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


def _describe_retry(model: ModelSpec, failure: CallFailed, answer: _Answer, wait: float, attempt: int) -> str:
    count = f"({attempt}/{ATTEMPTS})"
    if answer.length:
        return (
            f"{model.name}: the stream broke after {answer.length:,} characters; "
            f"retrying in {wait:g} s, the answer starts over {count}"
        )
    colon = "" if failure.status else ":"
    return f"{model.name}{colon} {headline(failure)}; retrying in {wait:g} s {count}"


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
