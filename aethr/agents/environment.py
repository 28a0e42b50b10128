"""What of the caller's environment an agent gets: what programs need, its own settings, and one key."""

from __future__ import annotations

import os
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from shutil import which
from typing import NamedTuple

from aethr.agents import Agent
from aethr.providers import provider_of

_USER = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TERM")
_FOLDERS = ("TMPDIR", "TEMP", "TMP")
_CERTIFICATES = (
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
)
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_OPT_OUTS = ("DO_NOT_TRACK", "DISABLE_*")
"""What somebody has switched off stays off, for whichever agent."""
_PLAIN = frozenset((*_USER, *_FOLDERS, *_CERTIFICATES, *_PROXIES, *map(str.upper, _PROXIES)))
_PREFIXES = ("LC_", "XDG_")
_KEYS = ("_API_KEY", "_AUTH_TOKEN")


class Access(NamedTuple):
    """What the model of a step needs: its key and its address, each with the variable it came from."""

    key_variable: str = ""
    key: str = ""
    base_variable: str = ""
    base: str = ""


def access(model: str, environ: Mapping[str, str]) -> Access:
    """The one key and the one address for ``provider:model``; empty where the environment has none.

    A missing key is no mistake here: agents have logins of their own.
    """
    provider = provider_of(model)
    key, base = provider.key_in(environ) or "", provider.base_in(environ) or ""
    return Access(key, environ.get(key, ""), base, environ.get(base, ""))


def reduced(environ: Mapping[str, str], agent: Agent, root: Path) -> dict[str, str]:
    """What ``agent`` gets of the user's environment: what programs need, opt-outs, its own settings; no key.

    ``PWD`` is set because OpenCode follows it rather than its working directory.
    """
    own = (f"{agent.own_prefix}*", *agent.keeps, *_OPT_OUTS)

    def gets(name: str) -> bool:
        if name in _PLAIN or name.startswith(_PREFIXES):
            return True
        return not name.endswith(_KEYS) and any(fnmatchcase(name, pattern) for pattern in own)

    return {**{name: value for name, value in environ.items() if gets(name)}, "PWD": str(root)}


def find_program(name: str, environ: Mapping[str, str]) -> tuple[str | None, str | None]:
    """(where it is, where a file of that name is that cannot be executed); only absolute folders of PATH.

    A relative entry would let a file of the project stand in for the program.
    """
    folders = [
        folder for folder in environ.get("PATH", os.defpath).split(os.pathsep) if Path(folder).is_absolute()
    ]
    found = which(name, path=os.pathsep.join(folders)) if folders else None
    files = (str(Path(folder, name)) for folder in folders if Path(folder, name).is_file())
    return found, None if found else next(files, None)
