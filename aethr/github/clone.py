"""``aethr run --pull-request N``: the pull request of a clone, for a review in the terminal.

Which repository is meant, which of GitHub's servers it is on and which token is for it are decided as gh
does (https://cli.github.com/manual/gh_help_environment). A token goes to no server but its own: whoever
wrote the clone's configuration does not choose where it is sent. Nothing is posted, no branch and no file of
the tree changes.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from aethr import git
from aethr.base import options, process, secrecy
from aethr.base.errors import ProcessError, UsageError
from aethr.base.options import RunOptions
from aethr.base.records import PullRequestText, Survey
from aethr.git import call
from aethr.git.fetch import LOOPBACK, Remote
from aethr.github import event, inputs, pull
from aethr.github.pull import Pull
from aethr.github.upsert import Api, ApiError, Sleep
from aethr.run import one_off
from aethr.workflow.planning import Project

DOT_COM = "github.com"
TENANTS = ".ghe.com"
FIRST_REMOTES = ("upstream", "github", "origin")
"""gh's order, in which the others follow (https://github.com/cli/cli, context/remote.go)."""
GH_TIMEOUT_S = 10.0

_SCP = re.compile(r"(?:[^@/:]+@)?(?P<host>[A-Za-z0-9.-]+):(?P<path>[^/].*)")
"""``git@github.com:octo/shop.git``, as scp writes an address."""
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?(?::[0-9]{1,5})?")
_NAME = re.compile(r"(?!\.\.?/)[A-Za-z0-9_.-]{1,100}/(?!\.\.?$)[A-Za-z0-9_.-]{1,100}")


class HostedRepository(NamedTuple):
    """A repository by its host (and port) in lower case, and its name ``owner/name``."""

    host: str
    name: str

    @property
    def is_enterprise_server(self) -> bool:
        return self.host != DOT_COM and not self.host.endswith(TENANTS)

    @property
    def url(self) -> str:
        return f"{self._scheme}://{self.host}/{self.name}"

    @property
    def api_url(self) -> str:
        if self.is_enterprise_server:
            return f"{self._scheme}://{self.host}/api/v3"
        return f"https://api.{self.host}"

    @property
    def _scheme(self) -> str:
        return "http" if urlsplit(f"//{self.host}").hostname in LOOPBACK else "https"


class Opened(NamedTuple):
    """What ``run.prepare`` gets: the workflow, the change and what is said about it; and notes for people."""

    project: Project
    survey: Survey
    pull_request: PullRequestText | None
    notes: tuple[str, ...]


def open_pull_request(given: RunOptions, cwd: Path, environ: Mapping[str, str], sleep: Sleep) -> Opened:
    """Fetch the commits of ``--pull-request`` into this clone. Raises ``AethrError``."""
    options.check(given)
    assert given.pull_request is not None
    project = one_off.open_project(given, cwd)
    pull.refuse_programs(project.workflow)
    project = project._replace(root=project.root.resolve())
    here = git.checkout(project.root)
    if here is None:
        raise UsageError(f"--pull-request: {project.root} is not in a git repository", "Run it in a clone.")
    here = here._replace(top=here.top.resolve())
    repository = find_repository(here.top, environ)
    token = find_token(repository, environ)
    found = _ask(repository, token, given.pull_request, sleep)
    remote = Remote(repository.url, token)
    change = pull.change(found, here.top, remote)
    survey = git.survey(here, event.resolve(here, change, remote))
    inputs.fetch_sources(project, survey, remote)
    closed = "" if found.is_open else ", which is closed"
    note = f"pull request {found.number} of {repository.name}{closed}; nothing is posted there"
    return Opened(project, survey, change.pull_request, (note,))


def _ask(repository: HostedRepository, token: str, number: int, sleep: Sleep) -> Pull:
    """The pull request, or the error with the words of a terminal. Raises ``AethrError``."""
    what = f"pull request {number} of {repository.name} on {repository.host}"
    named = " or ".join(_variables(repository)[:1])
    login = f"Set {named}, or run `gh auth login --hostname {repository.host}`."
    try:
        with Api(repository.api_url, token, sleep) as api:
            return pull.read(api, repository.name, number)
    except ApiError as error:
        if error.status == 404 and not token:
            title = f"there is no {what}, or it needs a token and there is none"
            raise UsageError(title, f"For a private repository: {login[:1].lower()}{login[1:]}") from error
        if error.status == 404:
            title = f"there is no {what} that this token may read"
            raise UsageError(title, "Check the number, and what the token may read.") from error
        if error.status in (301, 307, 308):
            title = f"{repository.name} on {repository.host} has another name now"
            raise UsageError(title, "Correct the address with `git remote set-url`.") from error
        error.fix = login if error.status in (401, 403, 429) else ""
        raise


def find_repository(top: Path, environ: Mapping[str, str]) -> HostedRepository:
    """The repository that pull requests of this clone are in, as gh finds it. Raises ``UsageError``.

    ``GH_REPO``; else the remote of `gh repo set-default`; else the first remote that is on GitHub.
    """
    if named := environ.get("GH_REPO", "").strip():
        *host, owner, name = ["", *named.split("/")]
        where = "/".join(host).strip("/") or environ.get("GH_HOST", "").strip() or DOT_COM
        found = locate(named) or _repository(where, f"{owner}/{name}")
        if found is None or not _is_github(found, environ):
            raise UsageError(f"GH_REPO={named[:100]!r} is not [HOST/]OWNER/NAME of GitHub", "Correct it.")
        return found
    seen = []
    for address, other in _addresses(top):
        found = locate(address)
        if found is None:
            continue
        if _is_github(found, environ):
            return _repository(found.host, other) or found if other else found
        seen.append(found.host)
    if seen:
        raise UsageError(
            f"--pull-request: no remote of this clone is on GitHub (they are on {', '.join(seen)})",
            "For GitHub Enterprise Server set GH_HOST to its name; or set GH_REPO=[HOST/]OWNER/NAME.",
        )
    raise UsageError(
        "--pull-request: this clone has no remote on GitHub", "Add one, or set GH_REPO=[HOST/]OWNER/NAME."
    )


def _addresses(top: Path) -> Iterator[tuple[str, str]]:
    """The addresses of the remotes in gh's order, each with the repository that gh has noted instead."""
    noted = {}
    for entry in call.run(top, "config", "-z", "--get-regexp", r"^remote\..*\.gh-resolved$").stdout.split(
        b"\0"
    ):
        key, _, value = os.fsdecode(entry).partition("\n")
        noted[key.removeprefix("remote.").removesuffix(".gh-resolved")] = value
    names = os.fsdecode(call.checked(top, "remote")).splitlines()
    ranks = {name: rank for rank, name in enumerate(FIRST_REMOTES)}
    for name in sorted(names, key=lambda each: (each not in noted, ranks.get(each, len(ranks)))):
        # With the operator's `url.….insteadOf`, as git itself reads it.
        done = call.run(top, "remote", "get-url", "--", name)
        address = os.fsdecode(done.stdout).partition("\n")[0]
        other = noted.get(name, "")
        yield address, "" if other == "base" else other


def locate(address: str) -> HostedRepository | None:
    """The repository at an address of git: https, ssh, or as scp writes it. None for any other."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return None
    path = parts.path
    if parts.scheme in ("https", "http"):
        host += f":{port}" if port is not None else ""
    elif parts.scheme not in ("ssh", "git+ssh", "git") or "://" not in address:
        match = _SCP.fullmatch(address)
        if match is None:
            return None
        host, path = match["host"], match["path"]
    return _repository(host, path.strip("/").removesuffix(".git"))


def _repository(host: str, name: str) -> HostedRepository | None:
    host = host.lower()
    if host in (f"ssh.{DOT_COM}", f"www.{DOT_COM}"):
        host = DOT_COM
    if _HOST.fullmatch(host) is None or _NAME.fullmatch(name) is None:
        return None
    return HostedRepository(host, name)


def _is_github(found: HostedRepository, environ: Mapping[str, str]) -> bool:
    """Whether a host is GitHub's, or the operator says so: in GH_HOST, or to gh."""
    if not found.is_enterprise_server or found.host == environ.get("GH_HOST", "").strip().lower():
        return True
    return bool(_ask_gh(found.host, environ))


def _variables(repository: HostedRepository) -> tuple[str, str]:
    kind = "_ENTERPRISE" if repository.is_enterprise_server else ""
    return f"GH{kind}_TOKEN", f"GITHUB{kind}_TOKEN"


def find_token(repository: HostedRepository, environ: Mapping[str, str]) -> str:
    """The token for a repository: of the environment, else of gh; empty without one. Raises ``UsageError``.

    A token for github.com is not sent to an Enterprise Server, nor the other way round.
    """
    given = {name: environ.get(name, "").strip() for name in _variables(repository)}
    variable, token = next(((name, value) for name, value in given.items() if value), ("", ""))
    if not (token.isascii() and all("!" <= letter <= "~" for letter in token)):
        raise UsageError(f"{variable} has a character that no token has", "Paste it in one line.")
    token = token or _ask_gh(repository.host, environ)
    secrecy.hide_too([token] if token else [])
    return token


def _ask_gh(host: str, environ: Mapping[str, str]) -> str:
    """The token that gh keeps for a host; empty if it has none, or is not installed."""
    program = shutil.which("gh", path=environ.get("PATH"))
    if program is None or not Path(program).is_absolute():  # not one of the tree
        return ""
    try:
        words = (program, "auth", "token", "--hostname", host)
        done = process.run(words, cwd=Path(os.sep), env=environ, timeout_s=GH_TIMEOUT_S)
    except ProcessError:
        return ""
    token = done.stdout.decode("ascii", "replace").strip()
    return token if done.code == 0 and all("!" <= letter <= "~" for letter in token) else ""
