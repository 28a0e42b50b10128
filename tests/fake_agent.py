"""Scripted agents: real executables on PATH that speak the events of opencode, claude or codex."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from aethr.agents import CLAUDE, CODEX, OPENCODE, Agent

Events = list[dict[str, object]]


@dataclass(frozen=True, slots=True)
class Dialect:
    """The events by which one agent says what all of them say."""

    agent: Agent
    model: str
    version: str
    text: Callable[[str], Events]
    edit: Callable[[str], Events]
    bash: Callable[[str], Events]
    finish: Callable[[], Events]
    error: Callable[[str], Events]
    refused: Callable[[str], Events]
    call: Callable[[int, int], Events]
    usage: tuple[int, int]
    cost: float | None
    goes_on: bool
    """Whether it goes on after a refused permission; else that ends its run."""

    @property
    def name(self) -> str:
        return self.agent.name

    def done(self, text: str = "ok") -> Events:
        """An answer, and the end."""
        return [*self.text(text), *self.finish()]

    def says(self, *events: dict[str, object]) -> str:
        """Lines of shell that print these events."""
        return "".join(f"printf '%s\\n' {shlex.quote(json.dumps(event))}\n" for event in events)


def _opencode_tool(tool: str, arguments: Mapping[str, object], error: str | None = None) -> Events:
    state = {"status": "error" if error else "completed", "input": arguments, "error": error}
    return [{"type": "tool_use", "part": {"type": "tool", "tool": tool, "state": state}}]


def _opencode_finish(reason: str, prompt: int = 100, completion: int = 20) -> Events:
    cache = {"read": 20, "write": 0}
    tokens = {"input": prompt - 20, "output": completion - 5, "reasoning": 5, "cache": cache}
    return [{"type": "step_finish", "part": {"reason": reason, "tokens": tokens, "cost": 0.25}}]


_REJECTED = "The user rejected permission to use this specific tool call."

_OPENCODE = Dialect(
    agent=OPENCODE,
    model="openai:gpt-5",
    version="1.18.33",
    text=lambda text: [{"type": "text", "part": {"type": "text", "text": text}}],
    edit=lambda path: [*_opencode_tool("edit", {"filePath": path}), *_opencode_finish("tool-calls")],
    bash=lambda command: _opencode_tool("bash", {"command": command}),
    finish=lambda: _opencode_finish("stop"),
    error=lambda message: [{"type": "error", "error": {"name": "APIError", "data": {"message": message}}}],
    refused=lambda tool: [
        *_opencode_tool(tool, {"command": "x"}, _REJECTED),
        *_opencode_finish("tool-calls"),
    ],
    call=lambda prompt, completion: _opencode_finish("tool-calls", prompt, completion),
    usage=(200, 40),
    cost=0.5,
    goes_on=False,
)


def _claude_says(*parts: dict[str, object], **fields: object) -> Events:
    return [{"type": "assistant", "message": {"content": list(parts), **fields}, "parent_tool_use_id": None}]


def claude_result(**fields: object) -> Events:
    """The end of a turn; ``usage`` counts that turn of the main agent, all else the whole process."""
    result = {
        "type": "result",
        "subtype": "success",
        "is_error": False,
        "usage": {"input_tokens": 70, "cache_read_input_tokens": 30, "output_tokens": 20},
        "modelUsage": {"claude-sonnet-4-5": CLAUDE_USED},
        "total_cost_usd": 0.5,
    }
    return [{**result, "permission_denials": [], **fields}]


CLAUDE_USED = {
    "inputTokens": 150,
    "cacheReadInputTokens": 50,
    "cacheCreationInputTokens": 0,
    "outputTokens": 40,
    "costUSD": 0.5,
    "costBasis": "list",
}


_CLAUDE = Dialect(
    agent=CLAUDE,
    model="anthropic:claude-sonnet-4-5",
    version="2.1.197 (Claude Code)",
    text=lambda text: _claude_says({"type": "text", "text": text}),
    edit=lambda path: _claude_says({"type": "tool_use", "name": "Edit", "input": {"file_path": path}}),
    bash=lambda command: _claude_says({"type": "tool_use", "name": "Bash", "input": {"command": command}}),
    finish=claude_result,
    error=lambda message: claude_result(is_error=True, result=message),
    refused=lambda tool: claude_result(
        permission_denials=[{"tool_name": tool.title(), "tool_input": {"command": "x"}}]
    ),
    call=lambda prompt, completion: _claude_says(
        id=f"msg_{prompt}", usage={"input_tokens": prompt, "output_tokens": completion}
    ),
    usage=(200, 40),
    cost=0.5,
    goes_on=True,
)


def _codex_item(**item: object) -> Events:
    return [{"type": "item.completed", "item": {"id": "item_1", "status": "completed", **item}}]


def _codex_finish() -> Events:
    return [{"type": "turn.completed", "usage": {"input_tokens": 200, "output_tokens": 40}}]


_CODEX = Dialect(
    agent=CODEX,
    model="openai:gpt-5",
    version="codex-cli 0.169.0",
    text=lambda text: _codex_item(type="agent_message", text=text),
    edit=lambda path: _codex_item(type="file_change", changes=[{"path": path, "kind": "update"}]),
    bash=lambda command: _codex_item(type="command_execution", command=command),
    finish=_codex_finish,
    error=lambda message: [{"type": "turn.failed", "error": {"message": message}}],
    refused=lambda _tool: [
        *_codex_item(type="command_execution", command="x", status="declined"),
        *_codex_finish(),
    ],
    call=lambda _prompt, _completion: [],
    usage=(200, 40),
    cost=None,
    goes_on=True,
)

DIALECTS = {dialect.name: dialect for dialect in (_OPENCODE, _CLAUDE, _CODEX)}


def install(folder: Path, dialect: Dialect, script: str, options: tuple[str, ...] | None = None) -> Path:
    """Put a scripted agent into a folder. It tells version and options; asked to work it runs ``script``."""
    folder.mkdir(parents=True, exist_ok=True)
    known = (
        (*dialect.agent.needs, dialect.agent.skip_flags[0], "--print-logs") if options is None else options
    )
    program = folder / dialect.name
    program.write_text(
        "#!/bin/sh\n"
        f'case " $* " in *" --version "*) echo "{dialect.version}"; exit;;\n'
        f'*" --help "*) echo "  {"  ".join(known)}"; exit;; esac\n'
        f"{script}"
    )
    program.chmod(0o755)
    return program
