"""Providers' keys: read from the environment and the project's ``.env``, and written to it.

``.env`` may come with a repository, so only these variables are read: the keys of the providers in
``providers``, ``AETHR_LIVE``, ``AETHR_MODEL``, and a base URL that points to this machine, in a variable of a
provider or one that the workflow names. It never overrides the environment and is never interpolated. A
``.env`` that may have come with the folder is not loaded: one that git tracks or once tracked, and any
outside of a repository.
"""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from aethr import git
from aethr.base import disk
from aethr.base.errors import GitError, UsageError
from aethr.base.providers import LOGINS, PROVIDERS, provider_of
from aethr.base.records import Checkout
from aethr.base.words import capped, counted
from aethr.git import tracking

MAX_BYTES = 1 << 16
SWITCHES = frozenset({"AETHR_LIVE", "AETHR_MODEL"})
KEYS = frozenset(name for provider in PROVIDERS.values() if provider.needs_key for name in provider.keys)
BASES = frozenset(name for provider in PROVIDERS.values() for name in provider.base_variables)

QUOTES = frozenset("\"'`\u2018\u2019\u201c\u201d\u00ab\u00bb")
"""Never part of a key; ``docker run --env-file``, for one, does not remove them."""

_SHOWN = 5
"""At most this many lines of a ``.env`` are reported one by one."""


class DotEnv(NamedTuple):
    """The variables of a project's ``.env``. ``warnings`` are lines to print once, without values."""

    values: Mapping[str, str]
    warnings: tuple[str, ...] = ()


NOTHING = DotEnv({})


def load(root: Path, here: Checkout | None = None, endpoints: Iterable[str] = ()) -> DotEnv:
    """Read ``root/.env``, if it exists and may be trusted. If not, the run continues with a warning.

    ``here`` is the checkout of ``root``, if known. ``endpoints`` are the variables with addresses that the
    workflow names.
    """
    try:
        content = _read(root / ".env")
        if content is None:
            return NOTHING
        foreign = _foreign_origin(here or git.checkout(root), content)
        if not foreign:
            return _parse(content.decode("utf-8-sig"), BASES.union(endpoints))
        reason = foreign
    except UnicodeDecodeError:
        reason = "it is not UTF-8 text"
    except GitError as error:
        reason = f"git cannot say whether it came with the repository ({error})"
    except (_RefusedError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
    return DotEnv({}, (f".env is not loaded: {reason}",))


def provider_keys(environ: Mapping[str, str], models: Iterable[str]) -> tuple[str, ...]:
    """All providers' keys in the environment of a run with these ``models``, used or not.

    So a resume with a model of another provider has the same keys as the run before. The key of your own
    server is often a placeholder: it counts only if one of the models is on that server.
    """
    used = [provider_of(model) for model in models]
    rows = [*(row for row in PROVIDERS.values() if not row.own_server), *used]
    names = {name for row in rows for name in row.keys}
    return tuple(sorted({value for name in names if (value := environ.get(name, "").strip())}))


def login(root: Path, provider: str, key: str) -> tuple[str, ...]:
    """Write ``provider``'s key into ``root/.env`` (mode 0600, other lines kept); returns warnings to print.

    Raises ``UsageError`` for an unusable key or file, ``DiskError`` if the file cannot be written.
    """
    _check_key(key)
    return _write(root, LOGINS[provider], f"'{key}'")


def go_live(root: Path) -> None:
    """Write ``AETHR_LIVE=1`` into ``root/.env``: the project's runs call models. Raises as ``login`` does."""
    _write(root, "AETHR_LIVE", "1")


def _write(root: Path, name: str, value: str) -> tuple[str, ...]:
    """Bind ``name`` in ``root/.env``; returns what may be wrong with the file then."""
    path = root / ".env"
    try:
        with disk.failing_as(f"{path}: cannot write"):
            content = _read(path)
        in_repository = _check_place(path, root, name, content)
        text = (content or b"").decode("utf-8")
    except _RefusedError as error:
        raise UsageError(f"{path}: {error}", "Remove it, and log in again.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text", "Convert it to UTF-8, and log in again.") from error
    with disk.failing_as(f"{path}: cannot write"):
        disk.write(path, "".join(_replace(text, name, value)), mode=0o600)
    if not in_repository:
        return ()
    with suppress(GitError):
        if tracking.is_tracked(root, ".env"):
            return ("git tracks .env: `git rm --cached .env`, or your key is in the next commit",)
        if not tracking.is_ignored(root, ".env"):
            return (
                "git does not ignore .env: add a line `.env` to .gitignore, or your key may be committed",
            )
    return ()


def origin(name: str, environ: Mapping[str, str], dotenv: DotEnv) -> str | None:
    """The source of variable ``name``: ``environment``, ``.env`` or None."""
    if environ.get(name):
        return "environment"
    return ".env" if dotenv.values.get(name) else None


class _RefusedError(Exception):
    """Why a ``.env`` is neither read nor changed."""


def _read(path: Path) -> bytes | None:
    """The file's bytes, read once, so that the checked bytes are the used ones. None without a file."""
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise _RefusedError("it is not a regular file")
        with os.fdopen(os.open(path, flags | getattr(os, "O_NOFOLLOW", 0)), "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    if len(content) > MAX_BYTES:
        raise _RefusedError(f"it is larger than {MAX_BYTES >> 10} KiB")
    return content


def _foreign_origin(here: Checkout | None, content: bytes) -> str:
    """Why somebody else may have written the file, and what to do; empty for your own. Raises ``GitError``.

    A file removed from git stays foreign until it is written anew.
    """
    if here is None:
        return (
            "this folder is not in a git repository, so it may have come with the folder; set the key in the "
            "environment, or run `git init`"
        )
    own = "`git rm --cached .env`, then write one of your own"
    if tracking.is_tracked(here.root, ".env", here.head):
        if tracking.is_tracked(here.root, ".env"):
            return f"git tracks it, so it may have come from somebody else; {own}"
        return f"it is in the last commit, so it may have come from somebody else; commit {own}"
    # The attributes `eol` and `ident` change a file on checkout: https://git-scm.com/docs/gitattributes
    plain = content.replace(b"\r\n", b"\n")
    without_id = re.sub(rb"\$Id:[^$\n]*\$", b"$Id$", plain)
    if tracking.had_content(here.root, (content, plain, without_id)):
        return "git has this very file in its history, so it may have come from somebody else; write your own"
    return ""


def _parse(text: str, bases: Collection[str]) -> DotEnv:
    from dotenv.parser import parse_stream  # takes 30 ms, so only if there is a .env

    found: dict[str, str] = {}
    broken: list[str] = []
    for binding in parse_stream(io.StringIO(text)):
        if binding.error or (binding.key is not None and binding.value is None):
            blank = len(binding.original.string) - len(binding.original.string.lstrip())
            broken.append(str(binding.original.line + binding.original.string.count("\n", 0, blank)))
        elif binding.key is not None and binding.value:
            found[binding.key] = binding.value
    values = {name: value for name, value in found.items() if _allowed(name, value, bases)}
    warnings = [
        f".env:{line}: cannot be parsed; write NAME=value, and close the quotes around a value with spaces"
        for line in broken[:_SHOWN]
    ]
    if len(broken) > _SHOWN:
        warnings.append(f".env: {counted(len(broken) - _SHOWN, 'more line')} cannot be parsed")
    ignored = sorted(set(found).difference(values, bases))
    if ignored:
        warnings.append(f".env: ignored, only providers' keys are read from it: {_names(ignored)}")
    foreign = sorted(set(found).difference(values).intersection(bases))
    if foreign:
        warnings.append(
            f".env: ignored, an endpoint on another host must come from the environment: {_names(foreign)}"
        )
    return DotEnv(values, tuple(warnings))


def _allowed(name: str, value: str, bases: Collection[str]) -> bool:
    if any(ord(char) < 32 or ord(char) == 127 for char in value):
        return False
    if name not in bases:
        return name in KEYS or name in SWITCHES
    from aethr.base.network import LOOPBACK  # it loads what few starts need

    try:
        parts = urlsplit(value)
        return parts.scheme in ("http", "https") and parts.hostname in LOOPBACK and "@" not in parts.netloc
    except ValueError:
        return False


def _names(names: list[str]) -> str:
    return capped([name if name.isidentifier() and name.isascii() else "(an odd name)" for name in names])


def _check_key(key: str) -> None:
    if not key:
        raise UsageError("the key is empty", "Paste the key, or pipe it in with --key-stdin.")
    if key[0] in QUOTES or key[-1] in QUOTES:
        raise UsageError("the key has quotes around it", "Paste the key without them.")
    if not key.isascii() or not key.isprintable() or " " in key or "'" in key or "\\" in key:
        raise UsageError("the key has a character that keys do not have", "Paste the key alone, in one line.")


def _check_place(path: Path, root: Path, name: str, content: bytes | None) -> bool:
    """Refuse a place from which ``load`` would not read: outside of a repository, or a file that came with
    one.

    False if git cannot say.
    """
    try:
        here = git.checkout(root)
        if here is None:
            raise UsageError(
                f"{root} is not in a git repository, and a .env that came with a folder is not loaded",
                f"Run `git init`, or set {name} in the environment.",
            )
        foreign = (
            content is not None and not tracking.is_tracked(root, ".env") and _foreign_origin(here, content)
        )
    except GitError:
        return False
    if foreign:
        raise UsageError(f"{path}: {foreign}", "Move it away, and log in again.")
    return True


def _replace(text: str, name: str, value: str) -> Iterator[str]:
    """The file's text with one binding replaced in place, or added at the end."""
    from dotenv.parser import parse_stream

    line = f"{name}={value}\n"
    written = False
    last = ""
    for binding in parse_stream(io.StringIO(text)):
        if binding.key != name:
            last = binding.original.string
            yield last
        elif not written:
            written, last = True, line
            yield line
    if not written:
        yield line if not last or last.endswith("\n") else "\n" + line
