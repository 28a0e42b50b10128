"""Calls through LiteLLM: only this file imports it, and only when a call is about to be made.

Each setting here was found necessary; the tests run with the oldest and the newest LiteLLM allowed. LiteLLM
reports an answer that was cut off cleanly as complete, so the finish reason is read from what the provider
itself sent.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import inspect
import json
import logging
import os
import re
import threading
from collections.abc import Collection, Generator, Iterator, Mapping
from contextvars import ContextVar
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from aethr.base import outside
from aethr.base.providers import litellm_name, provider_of
from aethr.base.records import Usage
from aethr.llm import (
    FINISHED,
    Alive,
    Call,
    CallFailed,
    Chunk,
    Read,
    connection,
    note_dropped,
    spending,
    sse,
)
from aethr.llm.exchange import Exchange, ProtocolStream
from aethr.llm.failures import failure_of
from aethr.llm.protocols import (
    PROTOCOLS,
    SETTINGS,
    WireProtocol,
    address,
    chat,
    merge,
    ollama,
    protocol_at,
    protocol_of,
    responses,
    serves,
)
from aethr.llm.protocols.content import cache_settings, write_content

ENVIRONMENT = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # otherwise a blocking download
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",  # the same
    "LITELLM_MODE": "PRODUCTION",  # otherwise it loads a .env from above its own folder
    "LITELLM_LOG": "CRITICAL",  # an unknown word there crashes the import
}
LOGGERS = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy")
_LOADING = threading.Lock()
_LINES = ("iter_lines", "iter_sse_lines")
"""The generators in which LiteLLM reads the lines of a response: httpx's and its own."""
_CLEAN_CUT = "Stream ended before a finish_reason was received"


def load() -> ModuleType:
    """LiteLLM, quiet and offline; its import takes about two seconds. Safe from any thread."""
    with _LOADING:
        return _loaded()


@functools.cache
def _loaded() -> ModuleType:
    with _importing():
        litellm = importlib.import_module("litellm")
        headers = importlib.import_module("litellm.anthropic_beta_headers_manager")
        headers.get_provider_name("anthropic")  # it reads its variable at first use and keeps the answer
    settings = {
        "suppress_debug_info": True,
        "disable_streaming_logging": True,
        "disable_hf_tokenizer_download": True,
        "disable_token_counter": True,  # a missing usage stays missing
        "REPEATED_STREAMING_CHUNK_LIMIT": 10**9,
    }
    for name, value in settings.items():
        setattr(litellm, name, value)
    _hook(litellm)
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        logging.getLogger(name).propagate = False
    return litellm


@contextlib.contextmanager
def _importing() -> Iterator[None]:
    """Set what LiteLLM reads during its import, and the garbage collector off; restore both.

    The collector costs 0.4 s of the import, and again at exit unless what was imported is frozen.
    """
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    collecting = gc.isenabled()
    os.environ.update(ENVIRONMENT)
    gc.disable()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        if collecting:
            gc.enable()
        gc.freeze()


def _hook(litellm: ModuleType) -> None:
    """Give our hooks and transport to every client that LiteLLM makes, and let it follow no redirect.

    A prompt goes to the operator's endpoint, not to the one that an answer names. ``routed`` says why the
    proxies are read by us. LiteLLM has no setting for any of this: these attributes are undocumented, and
    the tests pin them.
    """
    handlers = importlib.import_module("litellm.llms.custom_httpx.http_handler")
    handler = handlers.HTTPHandler
    create = handler.create_client

    def transport(verify: Any, cert: Any, **_: Any) -> Any:
        return connection.transport(verify, cert=cert)

    def hooked(self: Any) -> Any:
        client = create(self)
        client.follow_redirects = False
        client.event_hooks = {"request": [_prepare], "response": [_receive]}
        return client

    handler._create_sync_transport = staticmethod(transport)  # noqa: SLF001
    handler._create_sync_proxy_mounts = staticmethod(lambda *_, **__: None)  # noqa: SLF001
    handler.create_client = hooked
    litellm.client_session = handler().client  # type: ignore[attr-defined]  # what OpenAI's SDK calls with


_EXCHANGE: ContextVar[Exchange | None] = ContextVar("_EXCHANGE", default=None)
"""The exchange of the call that this thread makes."""
_STREAMED = re.compile(rb'"stream"\s*:\s*true')
_PROMPTS = frozenset({"messages", "input", "contents", "prompt", "inputs"})
"""Where the prompt is in the requests of all protocols: LiteLLM also asks for tokens and the like."""
_ASIDE = "/api/show"
"""LiteLLM asks Ollama about each model that is new to it, before a call and during it."""


def _prepare(request: Any) -> None:
    """The hook for a request. Raises ``CallFailed`` for a prompt that would go elsewhere than it should.

    For some providers LiteLLM ignores the address that it is given. What is shorter than the prompt cannot
    contain it: such a request gets a token.
    """
    exchange = _EXCHANGE.get()
    if exchange is not None:
        exchange.check_host(request.url)
    if exchange is None or request.url.path.endswith(_ASIDE):
        return
    exchange.prepare(request)
    call = exchange.call
    wanted = urlsplit(call.endpoint.base or "").hostname
    if wanted is not None and request.url.host != wanted and len(request.read()) >= len(call.prompt):
        with exchange.watching():
            elsewhere = f"LiteLLM would send it to {request.url.host}, not to {wanted}"
            raise CallFailed("bad_request", elsewhere)
    if call.model.options:
        _add_options(request, call.model.options)


def _add_options(request: Any, options: Mapping[str, Any]) -> None:
    """Add the model's options to a call's JSON, as LiteLLM has made it, unless that is signed.

    As arguments, some would be LiteLLM's own (``api_base``), and it nests ``extra_body`` for some providers.
    """
    body = _json_of(request)
    if not _PROMPTS.intersection(body) or request.headers.get("authorization", "").startswith("AWS4-"):
        return
    merge(body, options, keep_none=True)
    made = type(request)(request.method, request.url, json=body)
    request.stream, request._content = made.stream, made.content  # noqa: SLF001 - httpx changes no body
    request.headers["Content-Length"] = made.headers["Content-Length"]


def _json_of(request: Any) -> dict[str, Any]:
    """The object in a request's body, empty if there is none."""
    try:
        body = json.loads(request.read())
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _receive(response: Any) -> None:
    exchange, path = _EXCHANGE.get(), response.request.url.path
    if exchange is None or path.endswith(_ASIDE):
        return
    exchange.receive(response)
    # LiteLLM requests a response whole if it thinks that the model cannot stream.
    streamed = exchange.call.stream and not (
        path.endswith(PROTOCOLS["responses"].path) and not _STREAMED.search(response.request.read())
    )
    if not streamed:
        exchange.read()
        if _protocol_of(response) is not None:
            raise _ReadError
        response._content = exchange.whole  # noqa: SLF001 - it has been read within its bounds


def _protocol_of(response: Any) -> WireProtocol | None:
    """The protocol of a response that is read here."""
    return protocol_at(response.request.url.path) if response is not None else None


class _ReadError(Exception):
    """A complete answer in a protocol of ours has been read here, so that LiteLLM does not read it."""


def providers() -> Collection[str]:
    """The provider names that LiteLLM serves, as it spells them."""
    return frozenset(str(getattr(name, "value", name)) for name in load().provider_list)


def count_tokens(model_name: str, text: str) -> int:
    """Tokens of ``text`` by LiteLLM's best tokenizer for ``provider:model``."""
    return len(load().encode(model=litellm_name(model_name), text=text))


class LiteLLM:
    """The transport for every provider."""

    name = "litellm"

    def load(self) -> None:
        load()

    def open(self, call: Call, alive: Alive) -> ProtocolStream | LiteLLMStream | LiteLLMAnswer:
        """Answers in one of our own ``protocols`` are read as in a direct call.

        LiteLLM reads the others.
        """
        litellm, exchange = load(), Exchange(call, alive)
        stream = source = None
        token = _EXCHANGE.set(exchange)
        try:
            stream = litellm.completion(**_arguments(call))
            source = stream.fetch_sync_stream() if call.stream else None
        except Exception as error:
            if exchange.whole is None or _protocol_of(exchange.response) is None:
                raise failure_of(error, litellm, exchange.failure) from error
        finally:
            _EXCHANGE.reset(token)
        lines = getattr(source, "streaming_response", None)  # a generator of lines belongs to its response
        owned = inspect.getgeneratorlocals(lines).get("self") if inspect.isgenerator(lines) else None
        response = exchange.response = owned or getattr(source, "response", None) or exchange.response
        protocol = _protocol_of(response)
        if not call.stream and protocol is None:
            return LiteLLMAnswer(call, exchange, stream)
        if response is None or protocol is None or (response.is_stream_consumed and exchange.whole is None):
            return LiteLLMStream(call, exchange, stream, source)
        read = functools.partial(_read, protocol.reader(call.model.name), call.model.name)
        return ProtocolStream(exchange, read, response.close, _note_dropped(call, response))


def _read(read: Read, model_name: str, data: Mapping[str, Any]) -> Chunk:
    """Read an object; LiteLLM computes the cost if the price has rules that are not known here."""
    chunk, usage = read(data), data.get("usage")
    # To LiteLLM, counts in another form than that of chat completions would be zero.
    readable = isinstance(usage, dict) and "prompt_tokens" in usage
    if chunk.usage is None or not readable or spending.understands_price(model_name):
        return chunk
    litellm = load()
    try:
        counted = litellm.Usage(**data["usage"])
    except Exception:  # noqa: BLE001 - whatever Pydantic raises for what a server sent
        return chunk
    return chunk._replace(usage=chunk.usage._replace(cost_usd=_cost(litellm, model_name, counted)))


class LiteLLMStream:
    """An answer as LiteLLM reads it, with the finish reason as the provider sent it."""

    def __init__(self, call: Call, exchange: Exchange, stream: Any, source: Any) -> None:
        self._call = call
        self._exchange = exchange
        self._stream = stream
        self._watcher = _watch(exchange, stream, source)

    def chunks(self) -> Generator[Chunk, None, None]:
        litellm, response = load(), self._exchange.response
        usage = None
        try:
            yield from _note_dropped(self._call, response)
            for part in self._stream:
                usage = getattr(part, "usage", None) or usage
                choice = next(iter(part.choices), None)
                yield Chunk((choice.delta.content or "") if choice is not None else "")
        except Exception as error:
            # For a stream that ends without a finish reason LiteLLM raises an error, for some providers only.
            if _CLEAN_CUT not in str(error):
                yield Chunk(finish_reason=self._watcher.reason)
                raise failure_of(error, litellm, self._exchange.failure) from error
        finally:
            if response is not None:  # the garbage collector would close it during a later call
                response.close()
        reason = self._watcher.reason
        if not self._watcher.readable:  # only then LiteLLM's own word counts
            reason = self._stream.received_finish_reason or self._stream.intermittent_finish_reason or None
        yield Chunk(finish_reason=reason, usage=_usage(litellm, self._call.model.name, usage))

    def hang_up(self) -> None:
        self._exchange.hang_up()


class LiteLLMAnswer:
    """An answer without a stream as LiteLLM reads it, with the finish reason as the provider sent it."""

    def __init__(self, call: Call, exchange: Exchange, answer: Any) -> None:
        self._call = call
        self._exchange = exchange
        self._answer = answer

    def chunks(self) -> Generator[Chunk, None, None]:
        yield from _note_dropped(self._call, self._exchange.response)
        watcher, choice = FinishWatcher(), next(iter(self._answer.choices), None)
        for _ in watcher.of_lines(iter([self._exchange.whole or b""])):
            pass
        reason = watcher.reason if watcher.readable else getattr(choice, "finish_reason", None)
        text = choice.message.content if choice is not None else None
        usage = _usage(load(), self._call.model.name, getattr(self._answer, "usage", None))
        yield Chunk(text or "", reason, usage)

    def hang_up(self) -> None:
        self._exchange.hang_up()


class FinishWatcher:
    """Reads the provider's own finish reason; ``reason`` is None if it never sent one.

    LiteLLM turns ``data: [DONE]``, words that it does not know and some errors into ``stop``.
    ``readable`` is True once data in a known protocol has arrived.
    """

    _KNOWN = re.compile(r'"(?:choices|done)"')
    _WORD = re.compile(r'"(?:finish_reason|done_reason)"\s*:\s*"([^"\\]+)"')

    def __init__(self) -> None:
        self.reason: str | None = None
        self.readable = False

    def of_lines(self, lines: Iterator[str | bytes]) -> Iterator[str | bytes]:
        """The raw lines, unchanged. In JSON a quote within a text is escaped, so a text cannot match."""
        for line in lines:
            raw = line.decode("utf-8", "replace") if isinstance(line, bytes) else line
            self.readable = self.readable or self._KNOWN.search(raw) is not None
            found = self._WORD.search(raw)
            if found is not None:
                self.readable = True
                self._take(found.group(1))
            yield line

    def _take(self, reason: str | None) -> None:
        """Keep a cut: a later word does not make the answer complete."""
        if reason and (self.reason is None or self.reason.lower() in FINISHED):
            self.reason = reason

    def of_chunks(self, chunks: Iterator[Any]) -> Iterator[Any]:
        """An SDK's chunk objects, unchanged."""
        for chunk in chunks:
            self.readable = self.readable or hasattr(chunk, "choices")
            for choice in getattr(chunk, "choices", None) or ():
                self._take(getattr(choice, "finish_reason", None))
            yield chunk


def _watch(exchange: Exchange, stream: Any, source: Any) -> FinishWatcher:
    """Put a watcher between LiteLLM and what it reads (undocumented attributes; the tests pin them).

    httpx's ``iter_lines`` is replaced: it also cuts lines at letters that may stand in a text (see ``sse``).
    """
    watcher = FinishWatcher()
    lines: Any = getattr(source, "streaming_response", None)
    if inspect.isgenerator(lines):
        if exchange.response is not None and lines.__name__ in _LINES:
            lines = (line.decode("utf-8", "replace") for line in sse.lines(exchange.body()))
        source.streaming_response = source.response_iterator = watcher.of_lines(lines)
    elif hasattr(source, "__next__"):  # it reads objects, not lines
        stream.completion_stream = watcher.of_chunks(source)
    return watcher


_SENT_AS: Mapping[str, re.Pattern[bytes]] = {
    "temperature": re.compile(rb'"temperature"\s*:'),
    "top_p": re.compile(rb'"(?:top_p|topP)"\s*:'),
    "seed": re.compile(rb'"(?:random_)?seed"\s*:'),
    "reasoning_effort": re.compile(
        rb'"(?:reasoning_effort|effort|reasoning|thinking|thinkingConfig|think)"\s*:'
    ),
}
"""Settings of ours that LiteLLM translates, and what they are in the requests of all protocols."""


def _taken(call: Call) -> set[str]:
    """The settings to send: LiteLLM also sends what the model refuses or ignores."""
    name = call.model.name
    return set(protocol_of(name).settings(call) if serves(name) else SETTINGS) - call.left_out


def _arguments(call: Call) -> dict[str, Any]:
    name, base, taken = call.model.name, call.endpoint.base, _taken(call)
    row, model, content = provider_of(name), litellm_name(name), write_content(call)
    wanted = {each: getattr(call.model, each) for each in _SENT_AS if each in taken}
    if call.schema and "schema" in taken:
        form = {"format": {"type": "json_schema", "schema": call.schema}}
        as_config = row.litellm_schema == "output_config"
        wanted |= {"output_config": form} if as_config else chat.response_format(call)
    extra: dict[str, Any] = {"stream_options": {"include_usage": True}} if call.stream else {}
    if settings_of_cache := cache_settings(call):
        extra["extra_body"] = settings_of_cache
    if "ollama" in row.protocols:
        # LiteLLM would turn some efforts into no thinking at all.
        wanted["reasoning_effort"], think = None, ollama.think(call)
        thinking = {} if think is None or "reasoning_effort" not in taken else {"think": think}
        extra = {"num_ctx": ollama.window(call), "extra_body": {**ollama.WHOLE_PROMPT, **thinking}}
    elif base and "messages" in row.protocols:
        base = address(call)  # to which LiteLLM adds nothing
    elif base and "gemini" in row.protocols:
        base = address(call).rpartition("/models/")[0]
    elif responses.is_responses_model(name):
        content, extra["store"] = call.prompt, False  # for some providers LiteLLM drops it
        if responses.MARK not in model and spending.price_row(name) is None:
            model = model.replace("/", f"/{responses.MARK}", 1)
    settings = {
        **wanted,
        chat.limit_name(call): call.max_tokens,  # LiteLLM translates it only for models that it knows
        "api_key": None if call.endpoint.bearer else call.endpoint.key,  # it reads tokens itself
        "api_base": base,
    }
    return {
        "model": model,
        "messages": [{"role": "user", "content": content}],
        "stream": call.stream,
        "timeout": connection.timeout(call.deadlines),
        "max_retries": 0,
        "drop_params": True,
        **{setting: value for setting, value in settings.items() if value is not None},
        **extra,
    }


def _note_dropped(call: Call, response: Any) -> Iterator[Chunk]:
    """Compare with the request that LiteLLM sent, if it can be read.

    In JSON a quote within a text is escaped, so a prompt cannot look like a setting.
    """
    options = call.model.options
    if options and (response is None or not options.keys() <= _json_of(response.request).keys()):
        yield from note_dropped(call, ["options"])
    if response is not None:
        sent, taken = response.request.read(), _taken(call)  # LiteLLM may send a temperature of its own
        asked = [name for name in _SENT_AS if getattr(call.model, name) is not None]
        unsent = [name for name in asked if name not in taken or not _SENT_AS[name].search(sent)]
        keys = [name.encode() for name in call.schema["properties"]] if call.schema else []
        if keys and not any(b'"%s":' % key in sent for key in keys):
            unsent.append("schema")
        yield from note_dropped(call, [name for name in unsent if name not in call.left_out])


def _usage(litellm: ModuleType, model_name: str, usage: Any) -> Usage | None:
    """None for what the provider did not count: LiteLLM then says zero."""
    if usage is None or not usage.total_tokens:
        return None

    def counted(side: str, name: str) -> int | None:
        return outside.count(getattr(getattr(usage, side, None), name, None)) or None

    tokens = spending.Tokens(
        outside.count(usage.prompt_tokens),
        outside.count(usage.completion_tokens),
        counted("prompt_tokens_details", "cached_tokens"),
        counted("prompt_tokens_details", "cache_creation_tokens"),
        counted("completion_tokens_details", "reasoning_tokens"),
    )
    known = spending.to_usage(tokens, _cost(litellm, model_name, usage) if all(tokens[:2]) else None)
    if known is None or known.total_tokens is None:
        return known
    return known._replace(total_tokens=outside.count(usage.total_tokens))


def _cost(litellm: ModuleType, model_name: str, usage: Any) -> float | None:
    """US dollars as the provider states them, else by LiteLLM's prices: cached tokens, long prompts."""
    stated = spending.stated_cost(model_name, dict(usage))
    if stated is not None:
        return stated
    price = spending.lookup(model_name)
    if price is None or price.input_usd is None:
        return None
    try:
        return float(sum(litellm.cost_per_token(model=litellm_name(model_name), usage_object=usage)))
    except Exception:  # noqa: BLE001 - for a model it cannot price it raises Exception itself
        return spending.cost(model_name, spending.Tokens(usage.prompt_tokens, usage.completion_tokens))
