"""The backend ``model``: one call to a model, retried where that can help, honest about how it ended.

Servers of local models cut a prompt that is longer than their window and say nothing (Ollama keeps some four
tokens of its beginning and about the last half of the window): the tokens that a server counted tell.
"""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Callable, Generator, Mapping, Sequence

from aethr.base import network
from aethr.base.errors import BudgetError, UsageError
from aethr.base.providers import PROVIDERS, litellm_name, provider_of, split
from aethr.base.records import (
    Completion,
    ModelSpec,
    Notice,
    Request,
    Spent,
    TextDelta,
    Thinking,
    Usage,
)
from aethr.base.words import suggest
from aethr.llm import (
    ATTEMPTS,
    FINISHED,
    Call,
    CallFailed,
    Chunk,
    Deadlines,
    FailureKind,
    routes,
)
from aethr.llm.connection import Feed, Overdue, Silent, feeding
from aethr.llm.endpoints import address_of, endpoint_of
from aethr.llm.failures import explain, headline, tidy, too_long
from aethr.llm.prices import lookup
from aethr.llm.spending import (
    answer_tokens,
    believable,
    estimate_tokens,
    estimated_usage,
    limit_notes,
    over_limit,
)

DEADLINES = Deadlines()
BACKOFF_S = (1.0, 2.0)
"""Waited before the second and the third attempt, unless the provider says how long."""
LONGEST_WAIT_S = 60.0
LONGEST_ANSWER = 8_000_000
"""In characters: no model says so much, so a server that does is broken."""

RETRIED: frozenset[FailureKind] = frozenset({"rate_limit", "server", "connection", "lost", "timeout", "cut"})
VAGUE: frozenset[FailureKind] = frozenset({"empty", "garbage"})
"""What a stream that brings nothing is: the same request without one may find the reason."""
LENGTH = frozenset({"length", "max_tokens", "max_output_tokens"})
REFUSED: Mapping[str, FailureKind] = {
    "refusal": "refusal",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "prohibited_content": "content_filter",
    "blocklist": "content_filter",
}
"""Words for an answer that was not given."""


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

    def complete(
        self, request: Request
    ) -> Generator[TextDelta | Thinking | Spent | Notice, None, Completion]:
        """Stream one answer. Raises ``ModelError``, ``BudgetError``, ``UsageError``.

        An attempt that broke is made again after a ``Notice``: up to three in all, only once after the server
        had accepted it, never where another try cannot help. Where a stream brought nothing, the same is
        asked for once without one.
        """
        model = _model(request)
        self._check_window(request, model)
        with contextlib.suppress(Exception):  # the call will meet it again, and tell
            self._route(model.name).load()  # imports are not on the model's time
        ends_at = self._clock() + (model.timeout_s or self._deadlines.whole_s)
        history = _History()
        while True:
            answer, call = _Answer(), self._call(request, model, ends_at, stream=history.streamed is None)
            try:
                yield from self._attempt(call, answer, ends_at)
                return self._completion(request, call, answer, history)
            except CallFailed as caught:
                failure = caught
            if answer.usage is not None:
                yield Spent(answer.usage)
            request = self._charged(request, answer)
            whole = history.may_ask_whole and _may_come_whole(failure, call, answer)
            if whole and self._affords(request):
                history.ask_whole(failure)
                yield Notice(
                    f"{model.name}: {headline(failure)}; asking once more without streaming", "warning"
                )
                continue
            wait = self._wait(failure, history, answer, ends_at)
            if wait is None:
                told = history.tell(failure)
                raise explain(told, model.name, call.endpoint) from told
            yield Notice(_announcement(model, failure, answer, wait, history.attempts + 1), kind="warning")
            history.add(failure, answer)
            self._sleep(wait)

    def _attempt(
        self, call: Call, answer: _Answer, ends_at: float
    ) -> Generator[TextDelta | Thinking, None, None]:
        """One request and its answer. What goes wrong once the answer is complete takes nothing from it."""
        try:
            with feeding(self._route(call.model.name), call) as feed:
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
            said = f"{silence_s:g} s of silence after {answer.length:,} characters"
            raise CallFailed("silent", said) from None

    def _wait(self, failure: CallFailed, history: _History, answer: _Answer, ends_at: float) -> float | None:
        """Seconds until the next attempt; None when there shall be none."""
        if failure.kind not in RETRIED or not history.allows(failure, answer):
            return None
        if failure.retry_after_s is not None and failure.retry_after_s > LONGEST_WAIT_S:
            failure.message += f" (it asks to wait {failure.retry_after_s:,.0f} s)"
            return None
        wait = BACKOFF_S[history.attempts - 1] if failure.retry_after_s is None else failure.retry_after_s
        return wait if self._clock() + wait < ends_at else None

    def _completion(self, request: Request, call: Call, answer: _Answer, history: _History) -> Completion:
        usage, counted = self._counted(request, call, answer)
        cut = cut_prompt(request.prompt, answer.usage) if answer.usage is not None else None
        reason = answer.finish_reason or ""
        truncated = reason.lower() not in FINISHED
        over = over_limit(usage, call.max_tokens)
        limited = limit_notes(request, lookup(call.model.name), call.max_tokens, truncated=truncated)
        unread = (f"the prompt was not read whole: {cut}",) if cut and not request.reviewing else ()
        passed = (f"the server {over}",) if over else ()
        return Completion(
            content=answer.text,
            model=call.model.name,
            finish_reason=reason,
            truncated=truncated,
            usage=usage,
            transport=self._route(call.model.name).name,
            notes=(*history.notes, *answer.notes, *counted, *limited, *passed, *unread),
            cut_prompt=cut,
            over_limit=over,
        )

    def _counted(self, request: Request, call: Call, answer: _Answer) -> tuple[Usage, tuple[str, ...]]:
        """The provider's count; where it is not whole and an allowance must hold, an estimate."""
        usage = answer.usage or Usage()
        if usage.total_tokens is not None:
            return usage, ()
        unknown = ": whether it read the whole prompt is not known" if own_server(call) else ""
        if request.allowance.tokens is None and request.allowance.cost_usd is None:
            return usage, (f"the provider sent no token counts{unknown}",)
        usage = estimated_usage(request.prompt, answer.text, call.model.name)
        return usage, (f"the provider sent no token counts{unknown}; these are estimates by length",)

    def _charged(self, request: Request, answer: _Answer) -> Request:
        """What an attempt that failed leaves of the allowance."""
        spent = answer.usage
        if spent is None and answer.length:
            spent = estimated_usage(request.prompt, answer.text, _model(request).name)
        return request._replace(allowance=request.allowance.after(spent)) if spent else request

    def _affords(self, request: Request) -> bool:
        try:
            answer_tokens(request, lookup(_model(request).name))
        except BudgetError:
            return False
        return True

    def _call(self, request: Request, model: ModelSpec, ends_at: float, *, stream: bool) -> Call:
        left = max(0.1, ends_at - self._clock())  # to a socket no time at all means: do not wait
        limits = self._deadlines._replace(whole_s=left, connect_s=min(left, self._deadlines.connect_s))
        return Call(
            prompt=request.prompt,
            model=model,
            endpoint=endpoint_of(model.name, self._environ),
            deadlines=limits,
            max_tokens=answer_tokens(request, lookup(model.name)),
            stream=stream,
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


class _History:
    """The attempts of a call so far. ``streamed`` is how a stream failed that is asked for whole now."""

    def __init__(self) -> None:
        self.attempts = 1
        self.notes: tuple[str, ...] = ()
        self.streamed: CallFailed | None = None
        self._repeated = False

    def allows(self, failure: CallFailed, answer: _Answer) -> bool:
        """Whether one more attempt may be made: what a server had accepted is paid for each time."""
        accepted = failure.kind == "lost" or answer.length > 0
        return self.streamed is None and self.attempts < ATTEMPTS and not (accepted and self._repeated)

    @property
    def may_ask_whole(self) -> bool:
        """Whether the request without a stream would still be one of the attempts that a call has."""
        return self.streamed is None and self.attempts < ATTEMPTS

    def ask_whole(self, failure: CallFailed) -> None:
        """The next attempt, the last one, is made without a stream."""
        self.streamed = failure
        self.attempts += 1

    def add(self, failure: CallFailed, answer: _Answer) -> None:
        """One more attempt is made after this one."""
        self.attempts += 1
        self._repeated = self._repeated or failure.kind == "lost" or answer.length > 0
        if answer.length:
            broken = f"the stream broke once after {answer.length:,} characters"
            self.notes = (f"{broken}; that part was paid for too",)

    def tell(self, failure: CallFailed) -> CallFailed:
        """The failure to report: of a stream and the same without one, the one that gives a reason."""
        vague = failure.kind in VAGUE or failure.kind in ("deadline", "lost")
        return self.streamed if self.streamed is not None and vague else failure


class _Answer:
    """An answer as it grows, ``length`` in characters. Half of a surrogate pair waits for its other half.

    ``ended`` is True once its stream has.
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
        """Whether there is text, and the provider has said that it is all."""
        return bool(self.finish_reason and self.finish_reason.lower() != "error" and self.text.strip())

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    def add(self, chunk: Chunk) -> str:
        """Take a chunk; give the text that can be shown."""
        if self.finish_reason is None or self.finish_reason.lower() in FINISHED:
            self.finish_reason = chunk.finish_reason or self.finish_reason  # a later word forgives no cut
        if chunk.usage is not None and believable(chunk.usage):
            self.usage = chunk.usage
        if chunk.note:
            self.notes.append(chunk.note)
        self._refusal += chunk.refusal
        text = self._half + chunk.text
        self._half = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
        return self._keep(text[: len(text) - len(self._half)])

    def finish(self) -> str:
        """Its stream has ended: what was still held back."""
        self.ended = True
        half, self._half = self._half, ""
        return self._keep(half)

    def check(self) -> None:
        """Raise ``CallFailed`` where this is no finished answer."""
        reason = (self.finish_reason or "").lower()
        if reason == "error":
            raise CallFailed("server", "the answer ended with an error")
        if self._refusal.strip():
            raise CallFailed("refusal", self._refusal)
        if not reason and self.length:
            raise CallFailed("cut", f"the stream ended without saying so after {self.length:,} characters")
        if not reason:
            raise CallFailed("garbage", "it ended without any text")
        if not self.text.strip():
            raise self._empty(reason)

    def _empty(self, reason: str) -> CallFailed:
        said = f"no text, finish reason '{self.finish_reason}'"
        if reason in LENGTH:
            count = f"{self.usage.completion_tokens:,} " if self.usage else ""
            return CallFailed("all_thought", f"all {count}answer tokens went to thinking")
        if reason in REFUSED:
            return CallFailed(REFUSED[reason], said)
        return CallFailed("empty", said)

    def _keep(self, text: str) -> str:
        whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        self._pieces.append(whole)
        self.length += len(whole)
        if self.length > LONGEST_ANSWER:
            raise CallFailed("garbage", f"it is longer than {LONGEST_ANSWER:,} characters")
        return whole


def _may_come_whole(failure: CallFailed, call: Call, answer: _Answer) -> bool:
    """Whether a stream brought nothing and its server may say why, or does not stream for this account.

    LM Studio ends a stream without a word where the prompt is longer than its window:
    https://github.com/lmstudio-ai/lmstudio-bug-tracker/issues/2339
    """
    from aethr.llm.protocols import can_come_whole  # only after a failure

    if not can_come_whole(call.model.name):
        return False
    nothing = failure.kind in VAGUE and answer.ended and not answer.text.strip()
    return failure.kind == "no_stream" or (nothing and own_server(call))


def own_server(call: Call) -> bool:
    """Whether the call goes to a server of one's own, not to a provider's."""
    provider = provider_of(call.model.name)
    return provider.own_server or not provider.is_at(call.endpoint.base)


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
    raise UsageError(
        f"'{name}': no provider named '{provider}'{suggest(provider, [*PROVIDERS, *sorted(known)])}",
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


MEANINGFUL = 8192
"""In characters: in a shorter prompt the comparison means little, and hardly a window is so small."""
PER_TOKEN = 8
"""Characters a token in no text of that length, with any tokenizer.

Prose and code have three to five in the largest vocabularies there are (200,000 to 260,000 tokens); letters
beyond ASCII fewer, so characters are counted and not bytes. Only a run of one letter, such as the indentation
of code or a ruled line, has more: of each run as much is counted as a token may hold.
"""
WAY_OUT = (
    "raise the server's window (OLLAMA_CONTEXT_LENGTH for Ollama), or lower limits.context_chars "
    "or the step's context_chars"
)
_RUN = re.compile(rf"(.)\1{{{PER_TOKEN},}}", re.DOTALL)


def cut_prompt(prompt: str, usage: Usage) -> str | None:
    """How it is known that the server read only a part of ``prompt``; None where it may have read it all.

    A count of zero is none: some servers leave it out for a prompt that they have in their cache.
    """
    counted = usage.prompt_tokens
    if not counted or len(prompt) < MEANINGFUL:
        return None
    if counted * PER_TOKEN >= sum(map(len, _RUN.split(prompt)[::2])) + PER_TOKEN * len(_RUN.findall(prompt)):
        return None
    return f"the server counted {counted:,} tokens for {len(prompt):,} characters; {WAY_OUT}"
