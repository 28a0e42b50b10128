"""``aethr auth``: providers' keys in ``.env``, and where each one comes from."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from aethr import credentials, workflow
from aethr.errors import UsageError
from aethr.providers import LOGINS, PROVIDERS


def login(provider: str, *, key_stdin: bool) -> int:
    """Store a key, read from a hidden prompt or standard input, never from an argument."""
    root = workflow.project_root(Path.cwd())
    warnings = credentials.login(root, provider, _key(provider, key_stdin=key_stdin))
    sys.stdout.write(f"Stored {LOGINS[provider]} in {root / '.env'} (mode 0600).\n")
    for warning in warnings:
        sys.stderr.write(f"warning: {warning}\n")
    sys.stdout.write('Next: AETHR_LIVE=1 aethr run "review my changes"\n')
    return 0


def status() -> int:
    """Print each provider with the variable that holds its key, and where that comes from."""
    dotenv = credentials.load(workflow.project_root(Path.cwd()))
    for name in LOGINS:
        variables = PROVIDERS[name].keys
        found = ((variable, credentials.origin(variable, os.environ, dotenv)) for variable in variables)
        held = next(((variable, origin) for variable, origin in found if origin), None)
        said = (
            f"{held[0]} ({held[1]})" if held else f"no key: set {variables[0]} or `aethr auth login {name}`"
        )
        sys.stdout.write(f"{name:12}{said}\n")
    for warning in dotenv.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    return 0


def _key(provider: str, *, key_stdin: bool) -> str:
    if key_stdin:
        return sys.stdin.readline().strip()
    if not sys.stdin.isatty():
        raise UsageError("no terminal to ask for the key on", "Pipe it in: aethr auth login … --key-stdin.")
    from getpass import getpass

    return getpass(f"Key for {provider} ({LOGINS[provider]}), not shown: ").strip()
