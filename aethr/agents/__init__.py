"""The table of agents that edit the tree: a new one is a row here and a reader of its events.

Measured with opencode 1.18.33, claude 2.1.328 and codex 0.169.0. Every start of Aethr loads this table, so it
imports nothing that only an agent's run needs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from aethr.base.errors import AgentError, UsageError

if TYPE_CHECKING:
    from aethr.agents.events import Event, Progress, Transcript
    from aethr.base.records import Usage


class Guidance(NamedTuple):
    """The project's own instructions: the files that an agent may read, and their text up to a limit.

    ``notes`` say what was excluded and why; ``agents.guidance`` collects all three.
    """

    files: tuple[Path, ...] = ()
    text: str = ""
    notes: tuple[str, ...] = ()


class Run(NamedTuple):
    """One run of an agent. ``model`` is the name without its provider.

    - ``folders``: the project's folders from its top to ``root``, where settings and skills may be.
    - ``skip_flag``: the option that skips permission checks; empty keeps the checks.
    - ``options``: the options in the help of the installed version.
    - ``address``: where its calls go; empty if the row has no address for the provider. ``own_address``
      says that the user set it. ``key`` is the variable that holds the key; empty without a key.
    - ``settings``: the part of the user's environment that it gets.
    - ``allow``: commands that it may run, each also with more arguments.
    - ``budget_usd``: what it may spend; None: no limit. ``session``: the id of its session, a UUID.
    """

    step: str
    provider: str
    model: str
    root: Path
    skip_flag: str = ""
    options: frozenset[str] = frozenset()
    folders: tuple[Path, ...] = ()
    address: str = ""
    own_address: bool = False
    key: str = ""
    guidance: Guidance = Guidance()
    settings: Mapping[str, str] = MappingProxyType({})
    allow: tuple[str, ...] = ()
    budget_usd: float | None = None
    session: str = ""


class Agent(NamedTuple):
    """How one agent is found, called, restricted and understood.

    - ``help``: the arguments that print its options; ``needs``: the options it must have.
    - ``skip_flags``: options that skip its permission checks; the first that it has is used.
    - ``arguments``: builds its command line; the prompt comes on standard input.
    - ``variables``: set over the user's environment: the address, and the switches that keep it from
      attaching files and from reading settings in the tree.
    - ``read``: takes one event; ``read_error``: takes one line of standard error.
    - ``own_prefix``: the prefix of its own environment variables, which it gets; ``keeps``: patterns of its
      settings with other names. A name of a key never matches either.
    - ``login``, ``models``: for error messages: the command to log in, where to find its models.
    - ``session``: a context in which it runs, with a private folder: it yields more variables, which keep the
      session there. At its end nothing of the session is left in the user's own files.
    - ``delegated``: what calls of sub-agents used that are in no event, from that folder.
    - ``providers``: whose models it can use, empty for any; ``reports_cost``: when its events have a price.
    - ``keys``: by provider, the variable it reads the key from, if that is not the usual one.
    - ``addresses``: by provider, where calls go if the user sets no address. They are pinned too, or a
      settings file could redirect them.
    - ``logins``: by provider, where calls may go instead if there is no key, but the agent's own login.
    - ``guidance``: groups of file names for the project's instructions; a folder's first of each group is
      read. ``imports`` says that ``@path`` in such a file names another one.
    - ``unread``: what it would read from the tree when run by hand, but not here; the step's notes name it.
    """

    name: str
    install: str
    help: tuple[str, ...]
    needs: tuple[str, ...]
    skip_flags: tuple[str, ...]
    arguments: Callable[[Run], list[str]]
    variables: Callable[[Run], Mapping[str, str]]
    read: Callable[[Event, Transcript], Progress]
    own_prefix: str
    login: str
    models: str
    read_error: Callable[[str, Transcript], Progress] | None = None
    keeps: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    reports_cost: Literal["each call", "at the end", "never"] = "each call"
    session: Callable[[Run, Path], AbstractContextManager[Mapping[str, str]]] = lambda _run, _folder: (
        nullcontext({})
    )
    delegated: Callable[[Path], Usage] | None = None
    keys: Mapping[str, str] = MappingProxyType({})
    addresses: Mapping[str, str] = MappingProxyType({})
    logins: Mapping[str, str] = MappingProxyType({})
    guidance: tuple[tuple[str, ...], ...] = ()
    imports: bool = False
    unread: tuple[str, ...] = ()


def _lazy(module: str, name: str) -> Callable[..., Any]:
    """A function of a module of this room, which is imported when it is first called."""

    def call(*arguments: object) -> Any:
        from importlib import import_module

        return getattr(import_module(f"aethr.agents.{module}"), name)(*arguments)

    return call


_CHATGPT = "https://chatgpt.com/backend-api/"
"""Where calls go with a login of ChatGPT."""

_OPENCODE_PROVIDERS = {"gemini": "google"}
"""Providers that OpenCode calls by another name."""


def _refuse_plugins(run: Run) -> None:
    """Raises ``AgentError`` for plugins in the tree: OpenCode 1.18 runs them even without project config.

    A file with any ``\\u`` escape is refused too, since an escape can spell the key.
    """
    for folder in (each for place in run.folders for each in (place, place / ".opencode")):
        found = [folder / name for name in ("plugin", "plugins") if folder.name == ".opencode"]
        found = [path for path in found if path.is_symlink() or (path.is_dir() and any(path.iterdir()))]
        for path in (folder / "opencode.json", folder / "opencode.jsonc"):
            text = path.read_text("utf-8", "replace") if path.is_file() else ""
            if "plugins" in text or "\\u" in text:
                found.append(path)
        if found:
            raise AgentError(
                f"opencode: {found[0]} has plugins, which OpenCode runs and no option disables",
                "Remove them from the tree for this run, or name another backend.",
            )


def _opencode(run: Run) -> list[str]:
    _refuse_plugins(run)
    provider = _OPENCODE_PROVIDERS.get(run.provider, run.provider)
    argv = ["run", "--model", f"{provider}/{run.model}", "--title", f"aethr: {run.step}", "--format", "json"]
    # OpenCode reports an unknown model or a broken connection only in its log.
    argv += ["--print-logs", "--log-level", "ERROR"] if "--print-logs" in run.options else []
    return [*argv, "--dir", str(run.root), *_flag(run)]


def _opencode_variables(run: Run) -> dict[str, str]:
    """The tree does not configure it: the last layer of its configuration is Aethr's, over the user's own.

    https://opencode.ai/docs/config/ has the order of the layers. Without the project's configuration OpenCode
    does not read AGENTS.md either, so that file is passed as an instruction. Snapshots would be copies of the
    tree in the user's home folder.
    """
    pins: dict[str, object] = {
        "share": "disabled",
        "snapshot": False,
        "instructions": [str(file) for file in run.guidance.files],
    }
    if run.address:
        provider = _OPENCODE_PROVIDERS.get(run.provider, run.provider)
        base = run.address.rstrip("/")
        if provider == "anthropic":
            base = base.removesuffix("/v1") + "/v1"
        pins["provider"] = {provider: {"options": {"baseURL": base}}}
    if run.allow:
        # The last rule that matches counts: https://opencode.ai/docs/permissions. Under the name of the tool
        # these would replace a rule of the user's that is one word, and with it what that forbids.
        rules = {"bas?": {rule: "allow" for command in run.allow for rule in (command, f"{command} *")}}
        agents = {name: {"permission": rules} for name in ("build", "general")}
        pins |= {"permission": rules, "agent": agents}
    import json

    own = run.settings.get("OPENCODE_CONFIG_CONTENT") or "{}"
    try:
        settings = json.loads(own)
        if not isinstance(settings, dict):
            raise ValueError
    except (ValueError, RecursionError):
        raise UsageError(
            "OPENCODE_CONFIG_CONTENT is not a JSON object",
            "Write it without comments, or put it in a file and name the file in OPENCODE_CONFIG.",
        ) from None
    return {
        "OPENCODE_DISABLE_PROJECT_CONFIG": "1",
        "OPENCODE_DISABLE_EXTERNAL_SKILLS": "1",
        "OPENCODE_CONFIG_CONTENT": json.dumps(_merge(settings, pins)),
    }


def _merge(settings: Mapping[str, object], pins: Mapping[str, object]) -> dict[str, object]:
    """``settings`` with ``pins`` over them: mappings are merged, lists joined, other values replaced."""
    merged = dict(settings)
    for name, pin in pins.items():
        own = merged.get(name)
        if isinstance(own, dict) and isinstance(pin, dict):
            merged[name] = _merge(own, pin)
        elif isinstance(own, list) and isinstance(pin, list):
            merged[name] = [*own, *pin]
        else:
            merged[name] = pin
    return merged


_CLAUDE_ROUTES = (
    "BEDROCK", "VERTEX", "FOUNDRY", "MANTLE", "GATEWAY", "ANTHROPIC_AWS", "ANTHROPIC_GOOGLE_CLOUD",
)  # fmt: skip
"""CLAUDE_CODE_USE_… with one of these sends the calls to a cloud and ignores the address."""


def _claude(run: Run) -> list[str]:
    sandboxed = run.settings.get("IS_SANDBOX") == "1" or run.settings.get("CLAUDE_CODE_BUBBLEWRAP")
    if run.skip_flag and os.geteuid() == 0 and not sandboxed:
        raise AgentError(
            f"step '{run.step}': claude does not skip its permission checks for root",
            "Use `allow` instead of `unsafe_permissions`, another user, or IS_SANDBOX=1 in a container.",
        )
    import json

    argv = ["--print", "--output-format", "stream-json", "--verbose", "--model", run.model]
    argv += _flag(run) or ["--permission-mode", "acceptEdits"]
    argv += ["--no-session-persistence", "--session-id", run.session]
    if run.budget_usd is not None:
        argv += ["--max-budget-usd", f"{run.budget_usd:.6f}"]
    # Settings in the tree could redirect the calls, run hooks and start servers. Without them Claude Code
    # does not read CLAUDE.md, so its text is appended here. The user's own file may set an address, but
    # --settings takes precedence: https://code.claude.com/docs/en/settings#settings-precedence
    env = {**{f"CLAUDE_CODE_USE_{name}": "" for name in _CLAUDE_ROUTES}, **_claude_variables(run)}
    if run.key == "ANTHROPIC_API_KEY":
        env["ANTHROPIC_AUTH_TOKEN"] = ""  # or it would be used instead of the key
    rules = [f"Bash({rule})" for command in run.allow for rule in (command, f"{command} *")]
    settings = {"env": env, **({"permissions": {"allow": rules}} if rules else {})}
    argv += ["--setting-sources", "user", "--settings", json.dumps(settings)]
    return argv + (["--append-system-prompt", run.guidance.text] if run.guidance.text else [])


def _claude_variables(run: Run) -> dict[str, str]:
    return {
        # Without this switch `@path` anywhere in a prompt, even in a diff, attaches the file's content.
        "CLAUDE_CODE_DISABLE_ATTACHMENTS": "1",
        # Claude Code waits ten minutes for a background program that does not end.
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
        "ANTHROPIC_BASE_URL": run.address.rstrip("/").removesuffix("/v1"),
    }


def _codex(run: Run) -> list[str]:
    argv = [
        "exec",
        "--json",
        "--model",
        run.model,
        "--cd",
        str(run.root),
        "--skip-git-repo-check",
        "--ephemeral",
    ]
    argv += _flag(run) or ["--sandbox", "workspace-write"]
    # A trusted project brings settings, hooks and servers; an untrusted one not even AGENTS.md.
    untrusted = ",".join(f'{_toml(str(folder))}={{trust_level="untrusted"}}' for folder in run.folders)
    settings = [f"projects={{{untrusted}}}", "skills.bundled.enabled=false", *_codex_address(run)]
    # `$name` in a prompt attaches the content of that skill's file.
    skills = ",".join(f"{{path={_toml(skill)},enabled=false}}" for skill in _codex_skills(run))
    settings += [f"skills.config=[{skills}]"] if skills else []
    if run.guidance.text:
        settings.append(f"developer_instructions={_toml(run.guidance.text)}")
    return [*argv, *(word for setting in settings for word in ("-c", setting))]


def _codex_address(run: Run) -> tuple[str, ...]:
    """The address as configuration, which takes precedence over the user's own file.

    An address that the user set gets its own provider: the built-in one tries WebSockets first.
    """
    if not run.own_address:
        # Empty means the default: the API's address with a key, ChatGPT's with a login.
        return ('model_provider="openai"', 'openai_base_url=""', f"chatgpt_base_url={_toml(_CHATGPT)}")
    key = f",env_key={_toml(run.key)}" if run.key else ""
    kind = 'name="aethr",wire_api="responses",supports_websockets=false'
    provider = f"{{{kind},base_url={_toml(run.address)}{key}}}"
    return ('model_provider="aethr"', f"model_providers.aethr={provider}")


_MOST_SKILLS = 500
_MOST_FOLDERS = 2000


def _codex_skills(run: Run) -> Iterator[str]:
    """Every skill of the project and the user. Raises ``AgentError`` if there are too many to switch off.

    https://developers.openai.com/codex/skills has the places of today; Codex still reads ``.codex/skills``
    too. It follows links, and looks six folders deep.
    """
    home = Path(run.settings.get("HOME") or "/")
    own = Path(run.settings.get("CODEX_HOME") or home / ".codex")
    places = [place / name / "skills" for place in (*run.folders, home) for name in (".codex", ".agents")]
    found = seen = 0
    for place in dict.fromkeys((*places, own / "skills")):
        for folder, folders, files in os.walk(place, followlinks=True):
            seen += 1
            if len(Path(folder).relative_to(place).parts) >= 6:
                folders.clear()
            if "SKILL.md" in files:
                found += 1
                yield str(Path(folder, "SKILL.md"))
            if found > _MOST_SKILLS or seen > _MOST_FOLDERS:
                raise AgentError(
                    f"codex: too many skills or folders below {place}",
                    f"Aethr switches off at most {_MOST_SKILLS} skills in {_MOST_FOLDERS:,} folders.",
                )


def _toml(text: str) -> str:
    """A TOML string: as in JSON, but TOML has no surrogate pairs, so nothing is escaped to ASCII."""
    import json

    return json.dumps(text, ensure_ascii=False)


def _flag(run: Run) -> list[str]:
    return [run.skip_flag] if run.skip_flag else []


OPENCODE = Agent(
    name="opencode",
    install="npm install -g opencode-ai",
    help=("run", "--help"),
    needs=("--format", "--dir", "--model", "--title"),
    skip_flags=("--auto", "--dangerously-skip-permissions"),
    arguments=_opencode,
    variables=_opencode_variables,
    read=_lazy("events", "read_opencode"),
    read_error=_lazy("events", "read_opencode_error"),
    session=_lazy("sessions", "open_opencode"),
    delegated=_lazy("sessions", "count_opencode_subagents"),
    own_prefix="OPENCODE_",
    login="opencode auth login",
    models="`opencode models` lists them",
    keys={
        "google": "GOOGLE_GENERATIVE_AI_API_KEY",
        "gemini": "GOOGLE_GENERATIVE_AI_API_KEY",
        "openrouter": "OPENROUTER_API_KEY",
    },
    addresses={
        "openai": "https://api.openai.com/v1",
        "anthropic": "https://api.anthropic.com/v1",
        "google": "https://generativelanguage.googleapis.com/v1beta",
        "gemini": "https://generativelanguage.googleapis.com/v1beta",
        "openrouter": "https://openrouter.ai/api/v1",
        "xai": "https://api.x.ai/v1",
    },
    logins={"openai": _CHATGPT},
    guidance=(("AGENTS.md", "CLAUDE.md", "CONTEXT.md"),),
    unread=("opencode.json", "opencode.jsonc", ".opencode", ".claude/skills", ".agents/skills"),
)

CLAUDE = Agent(
    name="claude",
    install="npm install -g @anthropic-ai/claude-code",
    help=("--help",),
    needs=(
        "--print",
        "--output-format",
        "--permission-mode",
        "--model",
        "--setting-sources",
        "--settings",
        "--append-system-prompt",
        "--no-session-persistence",
        "--session-id",
        "--max-budget-usd",
    ),
    skip_flags=("--dangerously-skip-permissions",),
    arguments=_claude,
    variables=_claude_variables,
    read=_lazy("events", "read_claude"),
    session=_lazy("sessions", "open_claude"),
    reports_cost="at the end",
    own_prefix="CLAUDE_",
    login="claude auth login",
    models="`claude --help` says what --model takes",
    # From https://code.claude.com/docs/en/env-vars. No wider patterns: BASH_ENV, for one, is bash's own.
    keeps=(
        "ANTHROPIC_BETAS",
        "ANTHROPIC_CUSTOM_HEADERS",
        "ANTHROPIC_DEFAULT_*_MODEL*",
        "ANTHROPIC_SMALL_FAST_MODEL",
        "API_TIMEOUT_MS",
        "BASH_DEFAULT_TIMEOUT_MS",
        "BASH_MAX_*",
        "ENABLE_PROMPT_CACHING_*",
        "ENABLE_TOOL_SEARCH",
        "IS_SANDBOX",
        "MAX_MCP_OUTPUT_TOKENS",
        "MAX_THINKING_TOKENS",
        "MCP_TIMEOUT",
        "MCP_TOOL_TIMEOUT",
        "TASK_MAX_OUTPUT_LENGTH",
        "USE_BUILTIN_RIPGREP",
    ),
    providers=("anthropic",),
    addresses={"anthropic": "https://api.anthropic.com"},
    guidance=(("CLAUDE.md",), (".claude/CLAUDE.md",)),
    imports=True,
    unread=(
        ".claude/settings.json",
        ".claude/settings.local.json",
        ".mcp.json",
        "CLAUDE.local.md",
        ".claude/agents",
        ".claude/commands",
        ".claude/rules",
        ".claude/skills",
    ),
)

CODEX = Agent(
    name="codex",
    install="npm install -g @openai/codex",
    help=("exec", "--help"),
    needs=("--json", "--sandbox", "--model", "--cd", "--skip-git-repo-check", "--config", "--ephemeral"),
    skip_flags=("--dangerously-bypass-approvals-and-sandbox",),
    arguments=_codex,
    variables=lambda _run: {},
    read=_lazy("events", "read_codex"),
    read_error=_lazy("events", "read_codex_error"),
    session=_lazy("sessions", "open_codex"),
    own_prefix="CODEX_",
    login="codex login",
    models="the model must be one that Codex can use",
    providers=("openai",),
    reports_cost="never",
    keys={"openai": "CODEX_API_KEY"},
    addresses={"openai": "https://api.openai.com/v1"},
    logins={"openai": _CHATGPT},
    guidance=(("AGENTS.override.md", "AGENTS.md"),),
    unread=(".codex", ".agents/skills"),
)

AGENTS: Mapping[str, Agent] = {agent.name: agent for agent in (OPENCODE, CLAUDE, CODEX)}
