"""Fetch what the clone of a CI job lacks. No other module lets git use the network.

The address is the operator's, never one from the repository's configuration. Only its protocol is allowed; no
credential helper or hook runs, no ref or submodule changes, and nothing is checked out.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from aethr.base.errors import GitError, UsageError
from aethr.git import call, history

DEPTHS = (50, 300, 2_000, 10_000)
"""Commits to fetch of each side, step by step, until the merge base is certain; then all of them."""

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class Remote:
    """An address (``https:``, ``file:`` or, on loopback, ``http:``), and a GitHub token for it."""

    url: str
    token: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        plain = parts.scheme == "http" and parts.hostname in LOOPBACK
        if parts.scheme not in ("https", "file") and not plain:
            raise UsageError(f"{self.url[:200]!r} is not an https: address", "Check GITHUB_SERVER_URL.")

    @property
    def protocol(self) -> str:
        return urlsplit(self.url).scheme

    def secrets(self) -> tuple[tuple[str, str], ...]:
        """The configuration that carries the token to this host and to no other.

        The empty value clears the header that actions/checkout may have configured: GitHub refuses two.
        """
        if not self.token or self.protocol == "file":
            return ()
        parts = urlsplit(self.url)
        name = f"http.{parts.scheme}://{parts.netloc}/.extraheader"
        basic = base64.b64encode(f"x-access-token:{self.token}".encode()).decode()
        return (name, ""), (name, f"AUTHORIZATION: basic {basic}")


def common_commit(root: Path, remote: Remote, base: str, head: str) -> str:
    """The merge base of two commit ids; fetches what is missing for it, step by step.

    Raises ``GitError`` if the commits cannot be fetched or have no common one.
    """
    try:
        return _deepen(root, remote, base, head)
    except GitError as error:
        shallow = history.is_shallow(root)
        fix = "Check out with `fetch-depth: 0`, or give `github-token` the permission `contents: read`."
        raise GitError(
            str(error), fix if shallow or not history.has(root, base, head) else error.fix
        ) from error


def branch_tip(root: Path, remote: Remote, branch: str) -> str | None:
    """The current commit id of a branch of the remote; None for an unknown branch. Raises ``GitError``."""
    words = ("ls-remote", "--exit-code", remote.url, f"refs/heads/{branch}")
    done = call.run_online(root, remote.protocol, remote.secrets(), *words)
    if done.code == 2:
        return None
    if done.code != 0:
        raise call.failure(done)
    return done.stdout.decode("ascii", "replace").partition("\t")[0]


def commits(root: Path, remote: Remote, ids: Sequence[str], depth: int | None = None) -> None:
    """Fetch these commits, with at most ``depth`` generations of their history. Raises ``GitError``."""
    options = []
    if depth is not None:
        options.append(f"--depth={depth}")
    elif history.is_shallow(root):
        options.append("--unshallow")
    if history.is_partial(root):
        _from_promisor(root, remote, "tree:0", ids, *options)
    else:
        _fetch(root, remote, (), *options, remote.url, *ids)


def complete(root: Path, remote: Remote, commits: Sequence[str], wanted: Callable[[], Iterable[str]]) -> None:
    """Fetch what a partial clone lacks of these commits: their folders, and the files with the ``wanted``
    ids.

    ``wanted`` is called once the folders are there. Does nothing in any other clone. Raises ``GitError``.
    """
    if not history.is_partial(root):
        return
    _objects(root, remote, _missing(root, commits, "--filter=blob:none"))
    _objects(root, remote, _missing(root, commits).intersection(wanted()))


def _missing(root: Path, commits: Sequence[str], *options: str) -> frozenset[str]:
    """The ids of the objects of these commits (or trees) that this clone lacks."""
    words = ("rev-list", "--objects", "--no-walk", "--missing=print", *options, "--end-of-options", *commits)
    rows = call.checked(root, *words).decode("ascii", "replace").split("\n")
    return frozenset(row[1:] for row in rows if row.startswith("?"))


def _objects(root: Path, remote: Remote, ids: Iterable[str]) -> None:
    """Fetch objects by id, without telling the server that our commits are complete (``noop``)."""
    if names := sorted(ids):
        try:
            _from_promisor(root, remote, "blob:none", names, negotiate="noop")
        except GitError as error:
            fix = "Check out without `filter:`, or give `github-token` the permission `contents: read`."
            raise GitError(str(error), fix) from error


def _from_promisor(
    root: Path, remote: Remote, kept: str, ids: Sequence[str], *options: str, negotiate: str = "default"
) -> None:
    """Fetch into a partial clone as git itself does: what arrives may refer to objects that do not.

    git needs a named remote for that (https://git-scm.com/docs/partial-clone). The name is new each time, so
    the repository's configuration cannot contain it, and this call does not change the configuration.
    """
    name = f"aethr-{secrets.token_hex(8)}"
    about = {"url": remote.url, "promisor": "true", "partialclonefilter": kept}
    configuration = [(f"remote.{name}.{key}", value) for key, value in about.items()]
    configuration.append(("fetch.negotiationAlgorithm", negotiate))
    stdin = "".join(f"{each}\n" for each in ids).encode()
    _fetch(root, remote, configuration, *options, f"--filter={kept}", "--stdin", name, stdin=stdin)


def _fetch(
    root: Path,
    remote: Remote,
    configuration: Sequence[tuple[str, str]],
    *words: str,
    stdin: bytes | None = None,
) -> None:
    options = ("--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--no-auto-gc", "--quiet")
    more = ("--upload-pack=git-upload-pack", *words)
    settings = (*remote.secrets(), *configuration)
    done = call.run_online(root, remote.protocol, settings, "fetch", *options, *more, stdin=stdin)
    if done.code != 0:
        raise call.failure(done)


def _deepen(root: Path, remote: Remote, base: str, head: str) -> str:
    def common() -> str | None:
        return history.certain_merge_base(root, base, head) if history.has(root, base, head) else None

    for depth in DEPTHS if history.is_shallow(root) else ():
        if found := common():
            return found
        commits(root, remote, (base, head), depth)
    found = common()
    if found is None and (history.is_shallow(root) or not history.has(root, base, head)):
        commits(root, remote, (base, head))
        found = common()
    if found is None:
        raise GitError(
            f"{base[:12]} and {head[:12]} have no common commit",
            "Rebase the branch on its target.",
        )
    return found
