"""``aethr auth``: providers' keys in ``.env``, and where each one comes from."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from aethr.base.errors import UsageError
from aethr.base.providers import EXAMPLE, LOGINS, PROVIDERS, split
from aethr.base.sanitize import one_line
from aethr.base.words import fold, terminal_width, two_columns
from aethr.config import WORKFLOW_FILE, credentials
from aethr.config.credentials import DotEnv
from aethr.workflow import planning


def login(provider: str, *, key_stdin: bool, live: bool | None = None) -> int:
    """Store a key, read from a hidden prompt or standard input, never from an argument.

    With ``live`` the runs of this project call models from now on. None asks, on a terminal.
    """
    root = planning.project_root(Path.cwd())
    if key_stdin:
        key = sys.stdin.readline().strip()
    elif not sys.stdin.isatty():
        raise UsageError("no terminal to ask for the key on", "Pipe it in: aethr auth login … --key-stdin.")
    else:
        from getpass import getpass

        try:
            key = getpass(f"Key for {provider} ({LOGINS[provider]}), not shown: ").strip()
        except EOFError:  # Ctrl-D
            sys.stderr.write("\n")
            key = ""
    warnings = credentials.login(root, provider, key)
    mode = " (mode 0600)" if os.name == "posix" else ""
    sys.stdout.write(f"Stored {LOGINS[provider]} in {one_line(str(root / '.env'), 4000)}{mode}.\n")
    for warning in warnings:
        sys.stderr.write(f"warning: {warning}\n")
    settings = {**credentials.load(root).values, **os.environ}
    already = settings.get("AETHR_LIVE") == "1"
    if live is None:
        live = not key_stdin and not already and _ask_for_live()
    if live:
        credentials.go_live(root)
        sys.stdout.write("Runs of this project call models from now on. To try one for free: --mock.\n")
        if os.environ.get("AETHR_LIVE", "1") != "1":
            sys.stderr.write("warning: AETHR_LIVE in the environment wins over .env: unset it\n")
    preset = "" if (root / WORKFLOW_FILE).exists() else "--preset review-existing-diff "
    option = "" if live or already else "--live "
    if provider not in _used_providers(settings):  # it has to be named
        option = f"--model {provider}:MODEL "
    sys.stdout.write(f'Next, a real review:\n  aethr run {preset}{option}"review my changes"\n')
    return 0


def _ask_for_live() -> bool:
    """Whether the next run is to be real: so on Enter, because a key was given for that."""
    sys.stdout.write("Call models in this project from now on (AETHR_LIVE=1 in .env)? [Y/n] ")
    sys.stdout.flush()
    answer = sys.stdin.readline()
    return answer.strip().lower() in ("", "y", "yes") and bool(answer)  # Ctrl-D is not an Enter


def status() -> int:
    """Print the providers with a key, and those of the project's workflow: its variable, its source."""
    dotenv = credentials.load(planning.project_root(Path.cwd()))
    environ = {**dotenv.values, **os.environ}
    used = _used_providers(environ)
    shown = [name for name in LOGINS if name in used or PROVIDERS[name].key_in(environ)]
    sys.stdout.write(two_columns({name: find_key(name, dotenv) for name in shown}, sys.stdout))
    if others := [name for name in LOGINS if name not in shown]:
        line = f"no key, and not in the workflow: {', '.join(others)}"
        sys.stdout.write("".join(f"{each}\n" for each in fold(line, terminal_width(sys.stdout), 2)))
    for warning in dotenv.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    return 0


def _used_providers(environ: Mapping[str, str]) -> set[str]:
    """The providers of the project's workflow, or of the presets without one, and that of AETHR_MODEL."""
    try:
        workflow = planning.open_project(Path.cwd(), None, None).workflow
        models = [model.name for model in workflow.models.values()]
    except UsageError:  # no file, or a broken one: `aethr check` says where
        models = [EXAMPLE]
    if named := environ.get("AETHR_MODEL"):
        models.append(named)
    used = set()
    for name in models:
        with suppress(ValueError):
            used.add(split(name)[0])
    return used


def find_key(provider: str, dotenv: DotEnv) -> str:
    """Which variable holds the provider's key and where it is set, or how to set one."""
    for variable in PROVIDERS[provider].keys:
        if origin := credentials.origin(variable, os.environ, dotenv):
            over = origin == "environment" and dotenv.values.get(variable)
            return f"{variable} ({origin}{', which wins over .env' if over else ''})"
    return f"no key: `aethr auth login {provider}`, or set {LOGINS[provider]}"
