"""Other tools for the same work, each as its package index has it now, in an environment of its own.

The environments are made once with uv, in a cache outside of the repository; remove the folder to renew them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.world import Peer

REQUIREMENTS = {"aethr": "aethr==1.0.0", "llm": "llm", "pr-agent": "pr-agent"}
"""A tool's name, which is that of its program too, and what to install."""

PYTHON = "3.12"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aethr-benchmarks"
CERTIFICATES = {"UV_SYSTEM_CERTS": "1", "UV_NATIVE_TLS": "1"}
"""Trust those of the system, as pip does; the first name is that of newer versions of uv."""


def environments() -> tuple[Mapping[str, Peer], list[str]]:
    """The tools that are there, by name, and a line for each that is not."""
    found, absent = {}, []
    for name, requirement in REQUIREMENTS.items():
        folder = CACHE / name
        try:
            if not (folder / "bin" / name).exists():
                _install(folder, requirement)
            found[name] = Peer(f"{name} {_version(folder, name)}", folder / "bin")
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", None) or str(error)
            absent.append(f"{requirement}: {said.strip().splitlines()[-1]}")
    return found, absent


def _install(folder: Path, requirement: str) -> None:
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if uv is None:
        raise FileNotFoundError("uv is not here")
    _run(uv, "venv", "-q", "--clear", "--python", _python(), str(folder))
    _run(uv, "pip", "install", "-q", "--python", str(folder / "bin" / "python"), requirement)


def _python() -> str:
    """An interpreter of pyenv's, whose shims answer for none, else what uv finds."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    return max(map(str, root.glob(f"{PYTHON}.*/bin/python")), default=PYTHON)


def _version(folder: Path, name: str) -> str:
    asks = f"import importlib.metadata as m; print(m.version({name!r}))"
    return _run(str(folder / "bin" / "python"), "-c", asks).strip()


def _run(*words: str) -> str:
    env = {**os.environ, **CERTIFICATES}
    return subprocess.run(words, env=env, capture_output=True, text=True, check=True, timeout=300).stdout
