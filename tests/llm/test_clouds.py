"""Models of Azure, Bedrock and Vertex AI, which LiteLLM calls with the credentials of their clouds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from aethr.base.errors import ModelError
from aethr.base.records import Completion
from aethr.llm import transport_litellm
from tests.llm.test_model import backend, request
from tests.loopback import Handler, Loopback
from tests.model_server import ModelServer, Reply

AZURE = {"AZURE_API_KEY": "sk-test-0123456789", "AZURE_API_VERSION": "2025-01-01"}
NOWHERE = "http://127.0.0.1:9"
AWS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION_NAME": "eu-west-1"}


class TokenServer(Loopback):
    """What Google's accounts answer: a token for a signed request."""

    def __init__(self) -> None:
        super().__init__(_TokenHandler)


class _TokenHandler(Handler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"access_token": "a-token", "token_type": "Bearer", "expires_in": 3600}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module", autouse=True)
def litellm_is_loaded() -> None:
    """Its import must not count against a deadline."""
    transport_litellm.load()


@pytest.fixture
def service_account() -> Iterator[str]:
    """The JSON of a service account whose tokens come from loopback."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    with TokenServer() as tokens:
        yield json.dumps(
            {
                "type": "service_account",
                "project_id": "a-project",
                "private_key": key.private_bytes(*form).decode(),
                "client_email": "tester@example.invalid",
                "token_uri": f"{tokens.origin}/token",
            }
        )


def call(name: str, environ: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Completion:
    """Preflight and call; LiteLLM reads the credentials from the environment of the process."""
    for variable, value in environ.items():
        monkeypatch.setenv(variable, value)

    def complete() -> Iterator[Any]:
        ended.append((yield from model.complete(request(name))))

    ended: list[Completion] = []
    model = backend(environ)
    model.preflight([request(name)])
    list(complete())
    return ended[0]


def test_azure_is_called_with_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with ModelServer([Reply()]) as server:
        done = call("azure:gpt-4o", {**AZURE, "AZURE_API_BASE": server.origin}, monkeypatch)
    sent = server.requests[0]
    assert sent["path"] == "/openai/deployments/gpt-4o/chat/completions?api-version=2025-01-01"
    assert sent["headers"]["api-key"] == AZURE["AZURE_API_KEY"]
    assert (done.content, done.truncated, done.usage.total_tokens) == ("Hello, world.", False, 15)


@pytest.mark.parametrize("base", ["BEDROCK_API_BASE", "AWS_BEDROCK_RUNTIME_ENDPOINT"])
@pytest.mark.parametrize(("reason", "truncated"), [("end_turn", False), ("max_tokens", True)])
def test_bedrock_is_called_with_a_signature(
    base: str, reason: str, truncated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ModelServer([Reply(finish_reason=reason)]) as server:
        done = call("bedrock:anthropic.claude-opus-5-5", {**AWS, base: server.origin}, monkeypatch)
    sent = server.requests[0]
    assert sent["path"] == "/model/anthropic.claude-opus-5-5/converse-stream"
    assert sent["headers"]["authorization"].startswith("AWS4-HMAC-SHA256 Credential=id/")
    assert (done.content, done.truncated, done.usage.total_tokens) == ("Hello, world.", truncated, 15)


@pytest.mark.parametrize(
    ("name", "end"), [("gemini-2.5-pro", ":streamGenerateContent"), ("claude-opus-5-5", ":streamRawPredict")]
)
def test_vertex_is_called_with_a_token(
    name: str, end: str, service_account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ModelServer([Reply()]) as server:
        environ = {"VERTEXAI_CREDENTIALS": service_account, "VERTEX_AI_API_BASE": f"{server.origin}/{name}"}
        done = call(f"vertex_ai:{name}", environ, monkeypatch)
    sent = server.requests[0]
    assert sent["path"].partition("?")[0].endswith(end)
    assert sent["headers"]["authorization"] == "Bearer a-token"
    assert (done.content, done.truncated, done.usage.total_tokens) == ("Hello, world.", False, 15)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"VERTEXAI_CREDENTIALS": "/no/such/file.json"}, "Unable to load the vertex credentials file"),
        # Otherwise Google's package looks for a server of its cloud.
        ({"NO_GCE_CHECK": "true"}, "the key was refused: Your default credentials were not found"),
    ],
    ids=["a file", "none"],
)
def test_missing_credentials_are_an_error_in_one_line(
    environ: Mapping[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError) as caught:
        call("vertex_ai:gemini-2.5-pro", {**environ, "VERTEX_AI_API_BASE": NOWHERE}, monkeypatch)
    assert said in str(caught.value)
    assert "Traceback" not in str(caught.value)
