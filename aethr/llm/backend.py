"""The backend ``model``: one call to a model, tried again where that can help, honest about how it ended."""

from __future__ import annotations

import contextlib
import difflib
import time
from collections.abc import Callable, Generator, Mapping, Sequence

from aethr import network
from aethr.errors import UsageError
from aethr.llm import routes
from aethr.llm.calls import Call, CallFailed, Chunk, Deadlines, FailureKind
from aethr.llm.endpoints import address_of, endpoint_of
from aethr.llm.failures import explain, headline, too_long
from aethr.llm.feed import Feed, feeding
from aethr.llm.prices import lookup
from aethr.llm.spending import (
    answer_tokens,
    believable,
    estimate_tokens,
    estimated_usage,
    limit_notes,
    over_limit,
)
from aethr.providers import PROVIDERS, litellm_name, split
from aethr.records import Completion, ModelSpec, Notice, Request, TextDelta, Usage

DEADLINES = Deadlines()
ATTEMPTS = 3
BACKOFF_S = (1.0, 2.0)
"""Waited before the second and the third attempt, unless the provider says how long."""
LONGEST_WAIT_S = 60.0
LONGEST_ANSWER = 8_000_000
"""In characters: no model says so much, so a server that does is broken."""

RETRIED: frozenset[FailureKind] = frozenset({"rate_limit", "server", "connection", "timeout", "cut"})
FINISHED = frozenset({"stop", "end_turn", "stop_sequence", "eos", "eos_token", "complete"})
"""Words for a whole answer, in lower case. Every other word means that something is missing."""


class ModelBackend:
    """Calls models, each through its transport. ``environ`` has the keys and the endpoints."""

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

    def preflight(self, requests: Sequence[Request]) -> None:
        """Refuse a model without a name, a provider, a key or an endpoint. Raises ``UsageError``."""
        proxies = network.proxies(self._environ)
        network.check_certificates(self._environ)
        for request in requests:
            _split(_model(request).name, request.step)
        for name in dict.fromkeys(_model(request).name for request in requests):
            self._route(name)
            if split(name)[0] not in PROVIDERS:
                _refuse_unknown(name)
            base = address_of(name, endpoint_of(name, self._environ))
            if base is not None and (proxy := proxies.on_the_way_to(base)) is not None:
                proxy.require()

    def warm(self, requests: Sequence[Request]) -> None:
        """Start the imports that the calls will need, beside whatever comes before them."""
        routes.load_ahead(self._route(_model(request).name) for request in requests)

    def complete(self, request: Request) -> Generator[TextDelta | Notice, None, Completion]:
        """Stream one answer. Raises ``ModelError``, ``BudgetError``, ``UsageError``.

        An attempt that broke is made again after a ``Notice``: up to three in all, only once after text was
        shown (the answer then starts over), never where another try cannot help.
        """
        model = _model(request)
        self._check_window(request, model)
        with contextlib.suppress(Exception):  # the call will meet it again, and tell
            self._route(model.name).load()  # imports are not on the model's time
        ends_at = self._clock() + (model.timeout_s or self._deadlines.whole_s)
        notes: tuple[str, ...] = ()
        for attempt in range(1, ATTEMPTS + 1):
            answer = _Answer()
            call = self._call(request, model)
            try:
                yield from self._attempt(call, answer, ends_at)
                return self._completion(request, answer, notes)
            except CallFailed as failure:
                wait = self._wait(failure, attempt, answer, ends_at, restarted=bool(notes))
                if wait is None:
                    raise explain(failure, model.name, call.endpoint) from failure
                yield Notice(_announcement(model, failure, answer, wait, attempt + 1), kind="warning")
            if answer.length:
                broken = f"the stream broke once after {answer.length:,} characters"
                notes = (f"{broken}; that part was paid for too",)
                request = self._charged(request, answer)
            self._sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def _attempt(self, call: Call, answer: _Answer, ends_at: float) -> Generator[TextDelta, None, None]:
        with feeding(self._route(call.model.name), call) as feed:
            while (chunk := self._next(feed, answer, ends_at)) is not None:
                text = answer.add(chunk)
                if text:
                    yield TextDelta(text)
        tail = answer.finish()
        if tail:
            yield TextDelta(tail)
        answer.check()

    def _next(self, feed: Feed, answer: _Answer, ends_at: float) -> Chunk | None:
        limits = self._deadlines
        patience = limits.silence_s if answer.length else limits.first_token_s
        left = ends_at - self._clock()
        try:
            return feed.next(min(patience, left))
        except TimeoutError:
            if left <= patience:
                raise CallFailed("timeout", "the whole call took too long") from None
            after = f"{patience:g} s of silence after {answer.length:,} characters"
            raise CallFailed(
                "timeout", after if answer.length else f"no text within {patience:g} s"
            ) from None

    def _wait(
        self, failure: CallFailed, attempt: int, answer: _Answer, ends_at: float, *, restarted: bool
    ) -> float | None:
        """Seconds until the next attempt; None when there shall be none."""
        if failure.kind not in RETRIED or attempt == ATTEMPTS or (answer.length and restarted):
            return None
        if failure.retry_after_s is not None and failure.retry_after_s > LONGEST_WAIT_S:
            failure.message += f" (it asks to wait {failure.retry_after_s:,.0f} s)"
            return None
        wait = BACKOFF_S[attempt - 1] if failure.retry_after_s is None else failure.retry_after_s
        return wait if self._clock() + wait < ends_at else None

    def _completion(self, request: Request, answer: _Answer, notes: tuple[str, ...]) -> Completion:
        model = _model(request)
        usage, counted = self._counted(request, answer)
        reason = answer.finish_reason or ""
        truncated = reason.lower() not in FINISHED
        price = lookup(model.name)
        limit = answer_tokens(request, price)
        over = over_limit(usage, limit)
        limited = limit_notes(request, price, limit, truncated=truncated)
        return Completion(
            content=answer.text,
            model=model.name,
            finish_reason=reason,
            truncated=truncated,
            usage=usage,
            transport=self._route(model.name).name,
            notes=(*notes, *answer.notes, *counted, *limited, *([f"the server {over}"] if over else [])),
            over_limit=over,
        )

    def _counted(self, request: Request, answer: _Answer) -> tuple[Usage, tuple[str, ...]]:
        """The provider's count; where it is not whole and an allowance must hold, an estimate."""
        usage = answer.usage or Usage()
        if usage.total_tokens is not None:
            return usage, ()
        if request.allowance.tokens is None and request.allowance.cost_usd is None:
            return usage, ("the provider sent no token counts",)
        usage = estimated_usage(request.prompt, answer.text, _model(request).name)
        return usage, ("the provider sent no token counts; these are estimates by length",)

    def _charged(self, request: Request, answer: _Answer) -> Request:
        spent = estimated_usage(request.prompt, answer.text, _model(request).name)
        return request._replace(allowance=request.allowance.after(spent))

    def _call(self, request: Request, model: ModelSpec) -> Call:
        return Call(
            prompt=request.prompt,
            model=model,
            endpoint=endpoint_of(model.name, self._environ),
            deadlines=self._deadlines,
            max_tokens=answer_tokens(request, lookup(model.name)),
        )

    def _check_window(self, request: Request, model: ModelSpec) -> None:
        """Count exactly only where the length says that the prompt may be too long."""
        price = lookup(model.name)
        window = price.window if price is not None else None
        if window is None or estimate_tokens(request.prompt) <= window:
            return
        from aethr.llm.transport_litellm import count_tokens  # also of a direct call: it has the tokenizers

        tokens = count_tokens(model.name, request.prompt)
        if tokens > window:
            raise too_long(request.step, model.name, tokens, window)


class _Answer:
    """An answer as it grows, ``length`` in characters. Half of a surrogate pair waits for its other half."""

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.notes: list[str] = []
        self._pieces: list[str] = []
        self.length = 0
        self._half = ""

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    def add(self, chunk: Chunk) -> str:
        """Take a chunk; give the text that can be shown."""
        self.finish_reason = chunk.finish_reason or self.finish_reason
        if chunk.usage is not None and believable(chunk.usage):
            self.usage = chunk.usage
        if chunk.note:
            self.notes.append(chunk.note)
        text = self._half + chunk.text
        self._half = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
        return self._keep(text[: len(text) - len(self._half)])

    def finish(self) -> str:
        """What was still held back."""
        half, self._half = self._half, ""
        return self._keep(half)

    def check(self) -> None:
        """Raise ``CallFailed`` where this is no finished answer."""
        reason = (self.finish_reason or "").lower()
        if reason == "error":
            raise CallFailed("server", "the answer ended with an error")
        if not reason and self.length:
            raise CallFailed("cut", f"the stream ended without saying so after {self.length:,} characters")
        if not reason:
            raise CallFailed("garbage", "it ended without any text")
        if not self.text.strip():
            raise CallFailed("empty", f"no text, finish reason '{self.finish_reason}'")

    def _keep(self, text: str) -> str:
        whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        self._pieces.append(whole)
        self.length += len(whole)
        if self.length > LONGEST_ANSWER:
            raise CallFailed("garbage", f"it is longer than {LONGEST_ANSWER:,} characters")
        return whole


def _model(request: Request) -> ModelSpec:
    if request.model is None:
        raise UsageError(
            f"step '{request.step}': role '{request.role}' has no model",
            fix=f"Add a model for '{request.role}' under models:, or set AETHR_MODEL=provider:model.",
        )
    return request.model


def _refuse_unknown(name: str) -> None:
    from aethr.llm.transport_litellm import providers

    known = providers()
    if litellm_name(name).partition("/")[0] in known:
        return
    provider = split(name)[0]
    close = difflib.get_close_matches(provider, [*PROVIDERS, *sorted(known)], n=1)
    meant = f" (did you mean {close[0]}?)" if close else ""
    raise UsageError(
        f"'{name}': no provider named '{provider}'{meant}",
        fix=f"Name a model as provider:model: {', '.join(PROVIDERS)} or any LiteLLM provider.",
    )


def _split(name: str, step: str) -> None:
    try:
        split(name)
    except ValueError as error:
        raise UsageError(f"step '{step}': {error}", fix="Name a model as provider:model.") from error


def _announcement(model: ModelSpec, failure: CallFailed, answer: _Answer, wait: float, attempt: int) -> str:
    count = f"({attempt}/{ATTEMPTS})"
    if answer.length:
        return (
            f"{model.name}: the stream broke after {answer.length:,} characters; "
            f"asking again in {wait:g} s, the answer starts over {count}"
        )
    colon = "" if failure.status else ":"
    return f"{model.name}{colon} {headline(failure)}; trying again in {wait:g} s {count}"
