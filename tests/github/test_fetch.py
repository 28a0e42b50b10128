"""The common commit in clones of any depth, with real git and an origin on disk."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aethr import git
from aethr.base.errors import GitError, UsageError
from aethr.base.records import Scope
from aethr.git import fetch, history
from aethr.git.fetch import Remote
from aethr.github import event
from aethr.github.event import EventChange
from tests.github.support import PullRequest, open_pull_request
from tests.loopback import Handler, Loopback
from tests.support import Repo, checkout_of, make_repo

pytestmark = pytest.mark.slow


@pytest.fixture
def request_(tmp_path: Path) -> PullRequest:
    return open_pull_request(tmp_path)


@pytest.mark.parametrize("depth", [1, 2, None])
def test_the_common_commit_is_found_at_any_depth(request_: PullRequest, depth: int | None) -> None:
    clone = request_.checkout(depth=depth)
    found = fetch.common_commit(clone.root, Remote(request_.url), request_.base, request_.head)
    assert found == request_.common
    assert clone.git("status", "--porcelain") == ""
    assert clone.git("for-each-ref", "--format=%(refname)") == "refs/remotes/pull/7/merge\n"


def test_a_clone_is_deepened_until_the_common_commit(tmp_path: Path) -> None:
    far = open_pull_request(tmp_path, commits=60)
    clone = far.checkout(depth=1)
    assert fetch.common_commit(clone.root, Remote(far.url), far.base, far.head) == far.common
    assert history.is_shallow(clone.root) is False or history.has(clone.root, far.common)


def test_a_common_commit_before_the_edge_is_not_trusted(tmp_path: Path) -> None:
    """Main goes into the branch late, and an old side branch makes an older common commit easy to reach."""
    origin = make_repo(tmp_path / "origin")
    old = origin.commit("old")
    for number in range(4):
        origin.commit(f"main {number}")
    best = origin.commit("best")
    origin.git("checkout", "-q", "-b", "side", old)
    side = origin.commit("side")
    origin.git("checkout", "-q", "-b", "feature", best)
    for number in range(4):
        origin.commit(f"feature {number}")
    origin.git("merge", "-q", "--no-edit", side)
    head = origin.git("rev-parse", "HEAD").strip()
    origin.git("checkout", "-q", "main")
    origin.git("merge", "-q", "--no-edit", side)
    for _ in range(2):
        origin.commit("main goes on")
    base = origin.git("rev-parse", "HEAD").strip()
    clone = make_repo(tmp_path / "clone")
    clone.git("fetch", "-q", "--depth=4", f"file://{origin.root}", base, head)
    truth = origin.git("merge-base", "--all", base, head).split()
    assert history.certain_merge_base(clone.root, base, head) is None
    assert fetch.common_commit(clone.root, Remote(f"file://{origin.root}"), base, head) in truth


def test_without_a_common_commit_it_is_an_error(request_: PullRequest) -> None:
    request_.origin.git("checkout", "-q", "--orphan", "island")
    island = request_.origin.commit("island")
    clone = request_.checkout(depth=1)
    with pytest.raises(GitError, match="no common commit"):
        fetch.common_commit(clone.root, Remote(request_.url), request_.base, island)


def test_an_origin_that_is_gone_names_fetch_depth(request_: PullRequest) -> None:
    clone = request_.checkout(depth=1)
    with pytest.raises(GitError) as caught:
        fetch.common_commit(clone.root, Remote(f"{request_.url}-gone"), request_.base, request_.head)
    assert "fetch-depth: 0" in caught.value.fix


def test_nothing_that_the_repository_configures_runs(request_: PullRequest, tmp_path: Path) -> None:
    clone = request_.checkout(depth=1)
    trap = tmp_path / "trap.sh"
    trap.write_text(f"#!/bin/sh\ntouch '{tmp_path}/sprung'\n", encoding="utf-8")
    trap.chmod(0o755)
    for name in (
        "core.sshCommand",
        "core.gitProxy",
        "core.fsmonitor",
        "core.askPass",
        "core.alternateRefsCommand",
    ):
        clone.git("config", name, str(trap))
    clone.git("config", "credential.helper", f"!{trap}")
    clone.git("config", f"remote.{request_.url}.uploadpack", str(trap))
    clone.git("config", f"remote.{request_.url}.vcs", "ext")
    clone.git("config", "uploadpack.packObjectsHook", str(trap))
    for hook in ("reference-transaction", "post-checkout", "post-merge"):
        (clone.root / ".git" / "hooks" / hook).write_bytes(trap.read_bytes())
        (clone.root / ".git" / "hooks" / hook).chmod(0o755)
    with contextlib.suppress(GitError):  # refusing is fine, running is not
        fetch.common_commit(clone.root, Remote(request_.url), request_.base, request_.head)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "url", ["ext::sh -c touch% x", "ssh://host/x", "http://example.com/x", "git://h/x", "--upload-pack=x", ""]
)
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(UsageError, match="not an https: address"):
        Remote(url)


def test_the_token_is_sent_once_and_to_this_host_only(request_: PullRequest) -> None:
    clone = request_.checkout(depth=1)
    with listening() as (url, headers):
        clone.git("config", f"http.{url}/.extraheader", "AUTHORIZATION: basic old")
        with pytest.raises(GitError):
            fetch.commits(clone.root, Remote(f"{url}/octo/shop", "ghs_secret"), (request_.base,))
    assert headers[0] == ["basic " + base64.b64encode(b"x-access-token:ghs_secret").decode()]
    assert "ghs_secret" not in repr(Remote(url, "ghs_secret"))


def test_the_operators_git_configuration_stays_in_force(
    request_: PullRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = request_.checkout(depth=1)
    with listening() as (url, headers):
        monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
        monkeypatch.setenv("GIT_CONFIG_KEY_0", "http.extraHeader")
        monkeypatch.setenv("GIT_CONFIG_VALUE_0", "Authorization: of-the-proxy")
        with pytest.raises(GitError):
            fetch.commits(clone.root, Remote(f"{url}/octo/shop"), (request_.base,))
        monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{url}/mirror/.insteadOf")
        monkeypatch.setenv("GIT_CONFIG_VALUE_0", "http://127.0.0.1:1/")
        with pytest.raises(GitError):
            fetch.commits(clone.root, Remote("http://127.0.0.1:1/octo/shop", "ghs_secret"), (request_.base,))
    assert headers == [["of-the-proxy"], []]


@pytest.mark.parametrize("depth", [1, None])
def test_what_other_events_compare(request_: PullRequest, depth: int | None) -> None:
    clone = request_.checkout(depth=depth)
    remote = Remote(request_.url)

    def resolved(*change: str, **more: str) -> Scope:
        found = event.resolve(checkout_of(clone.root), EventChange(*change, **more), remote)
        assert found == git.resolve_scope(clone.root, found.text)  # what the same words mean to `--diff`
        return found

    assert resolved(request_.head, base=request_.common).text == f"{request_.common}...{request_.head}"
    assert resolved(request_.head, onto="main").text == f"{request_.base}...{request_.head}"
    assert resolved(request_.base).text == f"{request_.common}..{request_.base}"
    root = resolved(request_.common)
    assert root.text == f"{root.base}..{request_.common}"
    assert clone.git("cat-file", "-t", root.base or "") == "tree\n"


def test_pull_request_target_refuses_a_checked_out_head(request_: PullRequest) -> None:
    change = EventChange(request_.head, request_.base, number=7, privileged=True)
    for commit in ("refs/pull/7/merge", request_.head):
        for depth in (1, None):
            clone = request_.checkout(f"{commit[:5]}-{depth}".replace("/", "-"), depth, commit)
            with pytest.raises(UsageError, match="checked out"):
                event.refuse_checked_out_head(checkout_of(clone.root), change)
    for commit in (request_.base, request_.common):
        clone = request_.checkout(f"base-{commit[:5]}", None, commit)
        event.refuse_checked_out_head(checkout_of(clone.root), change)


@contextmanager
def listening() -> Iterator[tuple[str, list[list[str]]]]:
    """A server that notes the Authorization headers of each request and has nothing."""
    seen: list[list[str]] = []

    class Noting(Handler):
        def do_GET(self) -> None:
            seen.append(self.headers.get_all("Authorization", []))
            self.send_error(404)

    with Loopback(Noting) as server:
        yield server.origin, seen


@pytest.mark.parametrize("depth", [1, None])
@pytest.mark.parametrize("kept", ["blob:none", "tree:0"])
def test_a_partial_clone_fetches_only_the_changes_files(tmp_path: Path, kept: str, depth: int | None) -> None:
    request = open_pull_request(tmp_path, files={"deep/folder/unchanged.txt": "x\n", "notes.md": "n\n"})
    request.origin.git("config", "uploadpack.allowFilter", "true")
    clone = partial_clone(request, kept, depth)
    settings = (clone.root / ".git" / "config").read_text(encoding="utf-8")
    refs = clone.git("for-each-ref")
    remote = Remote(request.url)
    here = checkout_of(clone.root)
    found = event.resolve(here, EventChange(request.head, request.base), remote)
    shown = b"".join(git.diff(git.survey(here, found))).decode()
    assert shown == request.origin.git("diff", request.common, request.head)
    assert (clone.root / ".git" / "config").read_text(encoding="utf-8") == settings
    assert clone.git("for-each-ref") == refs
    note = request.origin.git("rev-parse", f"{request.head}:notes.md").strip()
    assert note not in held(clone)
    event.fetch_files(clone.root, remote, request.head, lambda path: path == "notes.md")
    assert note in held(clone)


def test_a_partial_clone_fetches_only_from_its_server(request_: PullRequest, tmp_path: Path) -> None:
    """Aethr does not call the repository's own remote, under whatever name it is configured."""
    request_.origin.git("config", "uploadpack.allowFilter", "true")
    clone = partial_clone(request_, "blob:none", None)
    clone.git("config", "remote.origin.url", f"file://{tmp_path}/elsewhere")
    here = checkout_of(clone.root)
    with listening() as (url, headers):
        with pytest.raises(GitError) as caught:
            event.resolve(
                here, EventChange(request_.head, request_.common), Remote(f"{url}/octo/shop", "ghs_secret")
            )
        assert len(headers) == 1
    assert "Check out without `filter:`" in caught.value.fix
    found = event.resolve(here, EventChange(request_.head, request_.base), Remote(request_.url))
    assert b"".join(git.diff(git.survey(here, found)))


def partial_clone(request: PullRequest, kept: str, depth: int | None) -> Repo:
    """A clone with a filter, in which nothing is checked out: it has commits, and hardly anything else."""
    root = request.folder / "partial"
    shallow = [f"--depth={depth}", "--no-single-branch"] if depth else []
    words = ["clone", "-q", "--no-tags", "--no-checkout", f"--filter={kept}", *shallow]
    request.origin.git(*words, request.url, str(root))
    return Repo(root)


def held(clone: Repo) -> set[str]:
    """The ids of all objects that are in a clone."""
    listed = clone.git("cat-file", "--batch-all-objects", "--batch-check=%(objectname)")
    return set(listed.split())
