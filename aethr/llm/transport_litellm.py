"""Calls through LiteLLM: the only file that imports it, and only when a call is about to be made.

The settings, and why each is needed, were measured with 1.106.2. LiteLLM reports an answer that was cut
off cleanly as complete, so how an answer ended is read from what the provider itself sent.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import inspect
import logging
import os
import re
import threading
from collections.abc import Collection, Generator, Iterator
from types import ModuleType
from typing import Any

from aethr import outside
from aethr.llm import chat, connection, costs
from aethr.llm.calls import Call, Chunk, dropped
from aethr.llm.failures_litellm import failure_of
from aethr.llm.prices import lookup
from aethr.providers import litellm_name
from aethr.records import Usage

ENVIRONMENT = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else a blocking download
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",  # the same
    "LITELLM_MODE": "PRODUCTION",  # else it loads a .env it finds above its own folder
    "LITELLM_LOG": "CRITICAL",  # an unknown word there crashes the import
}
LOGGERS = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy")
_LOADING = threading.Lock()


def load() -> ModuleType:
    """LiteLLM, quiet and offline; the first call takes about two seconds. Safe from any thread."""
    with _LOADING:
        return _loaded()


@functools.cache
def _loaded() -> ModuleType:
    with _environment(), _without_collector():
        litellm = importlib.import_module("litellm")
        headers = importlib.import_module("litellm.anthropic_beta_headers_manager")
        headers.get_provider_name("anthropic")  # it reads its variable at first use and keeps the answer
    settings = {
        "suppress_debug_info": True,
        "disable_streaming_logging": True,
        "disable_hf_tokenizer_download": True,
        "disable_token_counter": True,  # a missing usage stays missing
        "REPEATED_STREAMING_CHUNK_LIMIT": 10**9,
        "request_timeout": 180.0,  # gemini knows no other limit; ours are shorter
    }
    for name, value in settings.items():
        setattr(litellm, name, value)
    _stay(litellm)
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        logging.getLogger(name).propagate = False
    return litellm


def _stay(litellm: ModuleType) -> None:
    """Follow no redirect: a prompt goes where the operator sends it, not where an answer points.

    And go there by our own reading of the proxies, for which see ``routed``. There is no setting for either
    (undocumented attributes; the tests pin them).
    """
    handlers = importlib.import_module("litellm.llms.custom_httpx.http_handler")

    def transport(handler: Any) -> Any:
        verify = handlers.get_ssl_configuration(handler.ssl_verify)
        cert = os.getenv("SSL_CERTIFICATE", litellm.ssl_certificate)
        return connection.transport(verify, cert=cert)

    handler = handlers.HTTPHandler
    handler._create_sync_transport = transport  # noqa: SLF001
    handler.follow_redirects = property(lambda _: False, lambda _, __: None)
    litellm.client_session = handler().client  # type: ignore[attr-defined]  # what OpenAI's SDK calls with


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """Set what LiteLLM reads while it is imported, and take it away again."""
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """The collector costs 0.4 s of the import, and again at exit unless what was imported is frozen."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
        gc.freeze()


def providers() -> Collection[str]:
    """The provider names that LiteLLM serves, as it spells them."""
    return frozenset(str(getattr(name, "value", name)) for name in load().provider_list)


def count_tokens(model_name: str, text: str) -> int:
    """Tokens of ``text`` by the best tokenizer at hand for ``provider:model``."""
    return len(load().encode(model=litellm_name(model_name), text=text))


class LiteLLM:
    """The transport for every provider."""

    name = "litellm"

    def load(self) -> None:
        load()

    def open(self, call: Call) -> LiteLLMStream:
        litellm = load()
        try:
            return LiteLLMStream(call, litellm.completion(**_arguments(call)))
        except Exception as error:
            raise failure_of(error, litellm) from error


class LiteLLMStream:
    """One answer, with its end as the provider sent it."""

    def __init__(self, call: Call, stream: Any) -> None:
        self._call = call
        self._stream = stream
        source = stream.fetch_sync_stream()
        self._response = _response(source)
        self._ending = _watch(stream, source)
        self._finished = False

    def chunks(self) -> Generator[Chunk, None, None]:
        litellm = load()
        usage = None
        try:
            yield from _dropped(self._call, self._response)
            for part in self._stream:
                usage = getattr(part, "usage", None) or usage
                yield Chunk(_text(part))
        except Exception as error:
            raise failure_of(error, litellm) from error
        finally:
            self._release()
        counted = _usage(litellm, self._call.model.name, usage)
        yield Chunk(finish_reason=self._reason(), usage=counted)

    def _reason(self) -> str | None:
        """LiteLLM's own word only counts for a protocol that we cannot read."""
        if self._ending.readable:
            return self._ending.reason
        return self._stream.received_finish_reason or self._stream.intermittent_finish_reason or None

    def _release(self) -> None:
        """Give the connection back, here and now.

        Left to the garbage collector this happened inside of a later call, in a thread that held the lock
        of the same connection pool, and every call after it waited for ever.
        """
        self._finished = True
        if self._response is not None:
            self._response.close()

    def hang_up(self) -> None:
        if not self._finished:
            connection.hang_up(self._response)


class Ending:
    """How the provider ended its answer, in its own word; None when it never said so.

    LiteLLM turns ``data: [DONE]``, words that it does not know and some errors into ``stop``.
    ``readable`` is True once what arrived was in a protocol whose words are known here.
    """

    _KNOWN = re.compile(r'"(?:choices|candidates|message_start|done)"')
    _WORD = re.compile(r'"(?:finish_reason|finishReason|stop_reason|done_reason)"\s*:\s*"([^"\\]+)"')

    def __init__(self) -> None:
        self.reason: str | None = None
        self.readable = False

    def of_lines(self, lines: Iterator[str | bytes]) -> Iterator[str | bytes]:
        """The raw lines, unchanged. In JSON a quote inside of a text is escaped, so no text can match."""
        for line in lines:
            raw = line.decode("utf-8", "replace") if isinstance(line, bytes) else line
            self.readable = self.readable or self._KNOWN.search(raw) is not None
            found = self._WORD.search(raw)
            if found is not None:
                self.readable = True
                self.reason = found.group(1)
            yield line

    def of_chunks(self, chunks: Iterator[Any]) -> Iterator[Any]:
        """An SDK's chunk objects, unchanged."""
        for chunk in chunks:
            self.readable = self.readable or hasattr(chunk, "choices")
            for choice in getattr(chunk, "choices", None) or ():
                self.reason = getattr(choice, "finish_reason", None) or self.reason
            yield chunk


def _watch(stream: Any, source: Any) -> Ending:
    """Put an ``Ending`` between LiteLLM and what it reads (undocumented attributes; the tests pin them)."""
    ending = Ending()
    if hasattr(source, "streaming_response"):
        source.streaming_response = ending.of_lines(iter(source.streaming_response))
        source.response_iterator = source.streaming_response
    elif hasattr(source, "__next__"):
        stream.completion_stream = ending.of_chunks(source)
    return ending


def _response(source: Any) -> Any:
    """The HTTP response behind a stream: an attribute, or the owner of its generator of lines."""
    lines = getattr(source, "streaming_response", None)
    if inspect.isgenerator(lines):
        return inspect.getgeneratorlocals(lines).get("self")
    return getattr(source, "response", None)


def _arguments(call: Call) -> dict[str, Any]:
    settings = {
        "temperature": call.model.temperature,
        "seed": call.model.seed,
        # LiteLLM itself translates it for the names alone that it knows.
        "max_completion_tokens" if chat.is_openai(call) else "max_tokens": call.max_tokens,
        "api_key": call.endpoint.key,
        "api_base": call.endpoint.base,
    }
    return {
        "model": litellm_name(call.model.name),
        "messages": [{"role": "user", "content": call.prompt}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "timeout": connection.timeout(call.deadlines),
        "max_retries": 0,
        "drop_params": True,
        **{name: value for name, value in settings.items() if value is not None},
    }


def _dropped(call: Call, response: Any) -> Iterator[Chunk]:
    """By the request that LiteLLM sent, where it can be read.

    In JSON a quote inside of a text is escaped, so no prompt can look like a setting.
    """
    if response is not None:
        sent = re.findall(rb'"(temperature|seed)"\s*:', response.request.read())
        yield from dropped(call, [name.decode() for name in sent])


def _text(part: Any) -> str:
    choice = next(iter(part.choices), None)
    return (choice.delta.content or "") if choice is not None else ""


def _usage(litellm: ModuleType, model_name: str, usage: Any) -> Usage | None:
    """None where the provider counted nothing: LiteLLM then says zero."""
    if usage is None or not usage.total_tokens:
        return None
    asked = outside.count(usage.prompt_tokens) or None
    answered = outside.count(usage.completion_tokens) or None
    whole = asked is not None and answered is not None
    return Usage(
        asked,
        answered,
        outside.count(usage.total_tokens) if whole else None,
        _cost(litellm, model_name, usage) if whole else None,
    )


def _cost(litellm: ModuleType, model_name: str, usage: Any) -> float | None:
    """US dollars as the provider states them, else by LiteLLM's prices: cached tokens, long prompts."""
    stated = costs.stated(model_name, dict(usage))
    if stated is not None:
        return stated
    price = lookup(model_name)
    if price is None or price.input_usd is None:
        return None
    try:
        return float(sum(litellm.cost_per_token(model=litellm_name(model_name), usage_object=usage)))
    except Exception:  # noqa: BLE001 - for a model it cannot price it raises Exception itself
        return costs.cost(model_name, costs.Tokens(usage.prompt_tokens, usage.completion_tokens))
