"""The table of agents that edit the tree: a new one is one row here, its events in ``agents.events``.

Measured with opencode 1.18.33, claude 2.1.197 and codex 0.169.0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from aethr.agents.backend import AgentBackend
from aethr.agents.environment import Endpoint
from aethr.agents.events import read_claude, read_codex, read_opencode, read_opencode_error
from aethr.agents.kind import Agent, Run

_OPENCODE_PROVIDERS = {"gemini": "google"}
"""Where OpenCode's name of a provider is not ours."""


def _opencode(run: Run) -> list[str]:
    provider = _OPENCODE_PROVIDERS.get(run.provider, run.provider)
    argv = ["run", "--model", f"{provider}/{run.model}", "--title", f"aethr: {run.step}", "--format", "json"]
    # Its answer to an unknown model or a broken connection is only in its log.
    argv += ["--print-logs", "--log-level", "ERROR"] if "--print-logs" in run.options else []
    return [*argv, "--dir", str(run.root), *_flag(run)]


def _opencode_endpoint(provider: str, base: str) -> Endpoint:
    if provider == "anthropic":
        return Endpoint({"ANTHROPIC_BASE_URL": base.rstrip("/").removesuffix("/v1") + "/v1"})
    return Endpoint({"OPENAI_BASE_URL": base}) if provider == "openai" else Endpoint()


def _claude(run: Run) -> list[str]:
    argv = ["--print", "--output-format", "stream-json", "--verbose", "--model", run.model]
    return [*argv, *(_flag(run) or ["--permission-mode", "acceptEdits"])]


def _claude_endpoint(_provider: str, base: str) -> Endpoint:
    return Endpoint({"ANTHROPIC_BASE_URL": base})


def _codex(run: Run) -> list[str]:
    argv = ["exec", "--json", "--model", run.model, "--cd", str(run.root), "--skip-git-repo-check"]
    return [*argv, *(_flag(run) or ["--sandbox", "workspace-write"])]


def _codex_endpoint(_provider: str, base: str) -> Endpoint:
    # Its configuration is TOML, where a string is written as in JSON.
    return Endpoint(options=("-c", f"openai_base_url={json.dumps(base)}"))


def _flag(run: Run) -> list[str]:
    return [run.skip_flag] if run.skip_flag else []


OPENCODE = Agent(
    name="opencode",
    install="npm install -g opencode-ai",
    help=("run", "--help"),
    needs=("--format", "--dir", "--model", "--title"),
    skip_flags=("--auto", "--dangerously-skip-permissions"),
    arguments=_opencode,
    read=read_opencode,
    read_error=read_opencode_error,
    own_prefix="OPENCODE_",
    login="opencode auth login",
    models="`opencode models` lists the names it knows",
    keys={
        "google": "GOOGLE_GENERATIVE_AI_API_KEY",
        "gemini": "GOOGLE_GENERATIVE_AI_API_KEY",
        "openrouter": "OPENROUTER_API_KEY",
    },
    endpoint=_opencode_endpoint,
)

CLAUDE = Agent(
    name="claude",
    install="npm install -g @anthropic-ai/claude-code",
    help=("--help",),
    needs=("--print", "--output-format", "--permission-mode", "--model"),
    skip_flags=("--dangerously-skip-permissions",),
    arguments=_claude,
    read=read_claude,
    own_prefix="CLAUDE_",
    login="claude auth login",
    models="`claude --help` tells what --model takes",
    providers=("anthropic",),
    endpoint=_claude_endpoint,
)

CODEX = Agent(
    name="codex",
    install="npm install -g @openai/codex",
    help=("exec", "--help"),
    needs=("--json", "--sandbox", "--model", "--cd", "--skip-git-repo-check"),
    skip_flags=("--dangerously-bypass-approvals-and-sandbox",),
    arguments=_codex,
    read=read_codex,
    own_prefix="CODEX_",
    login="codex login",
    models="the model must be one that Codex can use",
    providers=("openai",),
    tells_cost=False,
    keys={"openai": "CODEX_API_KEY"},
    endpoint=_codex_endpoint,
)


def build_opencode(environ: Mapping[str, str]) -> AgentBackend:
    """The backend ``opencode``; what an agent may see of ``environ`` is said in ``agents.environment``."""
    return AgentBackend(OPENCODE, environ)


def build_claude(environ: Mapping[str, str]) -> AgentBackend:
    """The backend ``claude`` (Claude Code), for models of anthropic."""
    return AgentBackend(CLAUDE, environ)


def build_codex(environ: Mapping[str, str]) -> AgentBackend:
    """The backend ``codex`` (Codex CLI), for models of openai."""
    return AgentBackend(CODEX, environ)
