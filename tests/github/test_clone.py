"""``aethr run --pull-request``: a clone, its server with API and git, and gh as a stand-in program."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from aethr.base.errors import UsageError
from aethr.base.options import RunOptions
from aethr.cli import main
from aethr.github.clone import HostedRepository, find_repository, find_token, locate, open_pull_request
from aethr.github.upsert import ApiError
from tests.github.github_server import GitHubServer, Pull
from tests.github.support import WORKFLOW, PullRequest
from tests.github.test_command import AGENT, COMMAND, LOOP
from tests.live import KEY, PASS, REVISE, TWO_STEPS, Done
from tests.model_server import ModelServer, error, text
from tests.support import Repo, make_repo

TOKEN = "gho_0123456789abcdef0123"


@pytest.mark.parametrize(
    ("address", "host", "name"),
    [
        ("https://github.com/octo/shop", "github.com", "octo/shop"),
        ("https://github.com/octo/shop.git/", "github.com", "octo/shop"),
        ("https://ann:gho_secret@GitHub.com/octo/shop.git", "github.com", "octo/shop"),
        ("https://www.github.com/octo/shop", "github.com", "octo/shop"),
        ("git@github.com:octo/shop.git", "github.com", "octo/shop"),
        ("github.com:octo/shop.git", "github.com", "octo/shop"),
        ("ssh://git@github.com/octo/shop.git", "github.com", "octo/shop"),
        ("ssh://git@ssh.github.com:443/octo/shop.git", "github.com", "octo/shop"),
        ("git+ssh://git@github.com:22/octo/shop", "github.com", "octo/shop"),
        ("git@octo.ghe.com:octo/shop.git", "octo.ghe.com", "octo/shop"),
        ("https://git.example.com:8443/octo/shop.git", "git.example.com:8443", "octo/shop"),
        ("ssh://git@git.example.com:7999/octo/shop.git", "git.example.com", "octo/shop"),
    ],
)
def test_the_repository_of_an_address(address: str, host: str, name: str) -> None:
    assert locate(address) == HostedRepository(host, name)


@pytest.mark.parametrize(
    "address",
    [
        "", ".", "../shop", "/srv/git/shop.git", "file:///srv/octo/shop.git", "C:\\octo\\shop",
        "https://github.com/octo", "https://github.com/octo/shop/tree/main", "https:///octo/shop",
        "https://[::1/octo/shop", "https://github.com:99999999/octo/shop", "git@github.com:shop.git",
        "https://git hub.com/octo/shop", "ext::sh -c touch% x", "-oProxyCommand=x:octo/shop",
        "https://github.com/../shop/x", "https://github.com/../shop", "https://github.com/octo/..",
        "https://github.com/octo/sh op",
    ],
)  # fmt: skip
def test_what_is_no_repository_of_a_server(address: str) -> None:
    assert locate(address) is None


@pytest.mark.parametrize(
    ("host", "api"),
    [
        ("github.com", "https://api.github.com"),
        ("octo.ghe.com", "https://api.octo.ghe.com"),
        ("git.example.com:8443", "https://git.example.com:8443/api/v3"),
        ("ghe.com.example.com", "https://ghe.com.example.com/api/v3"),
        ("127.0.0.1:80", "http://127.0.0.1:80/api/v3"),
    ],
)
def test_the_address_of_the_api(host: str, api: str) -> None:
    assert HostedRepository(host, "octo/shop").api_url == api


@pytest.fixture
def gh(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """An environment with a ``gh`` that knows these hosts; it writes down what it was asked."""

    def install(**tokens: str) -> dict[str, str]:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        known = {name.replace("_", "."): token for name, token in tokens.items()}
        program = folder / "gh"
        program.write_text(
            f"#!{sys.executable}\nimport sys\n"
            f"open({str(folder / 'asked')!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n"
            f"token = {known!r}.get(sys.argv[-1])\n"
            "print(token) if token else sys.exit('no oauth token found for this host')\n",
            encoding="utf-8",
        )
        program.chmod(0o755)
        return {"PATH": str(folder)}

    return install


OURS = "git.example.com"
COM, TENANT, SERVER = (HostedRepository(host, "octo/shop") for host in ("github.com", "octo.ghe.com", OURS))


@pytest.mark.parametrize(
    ("repository", "environ", "expected"),
    [
        (COM, {"GH_TOKEN": "a", "GITHUB_TOKEN": "b"}, "a"),
        (COM, {"GH_TOKEN": " ", "GITHUB_TOKEN": "b\n"}, "b"),
        (TENANT, {"GH_TOKEN": "a"}, "a"),
        (COM, {"GH_ENTERPRISE_TOKEN": "e", "GITHUB_ENTERPRISE_TOKEN": "f"}, ""),
        (SERVER, {"GH_TOKEN": "a", "GITHUB_TOKEN": "b"}, ""),
        (SERVER, {"GH_TOKEN": "a", "GITHUB_ENTERPRISE_TOKEN": "f"}, "f"),
        (SERVER, {"GH_ENTERPRISE_TOKEN": "e", "GITHUB_ENTERPRISE_TOKEN": "f"}, "e"),
    ],
)
def test_a_token_goes_to_its_own_server_only(
    repository: HostedRepository, environ: dict[str, str], expected: str
) -> None:
    assert find_token(repository, {**environ, "PATH": ""}) == expected


@pytest.mark.slow
def test_gh_is_asked_for_a_token_of_that_host(tmp_path: Path, gh: Callable[..., dict[str, str]]) -> None:
    environ = gh(github_com="gho_1", git_example_com="gho_2")
    assert find_token(COM, environ) == "gho_1"
    assert find_token(SERVER, environ) == "gho_2"
    assert find_token(TENANT, environ) == ""
    assert find_token(COM, {**environ, "GH_TOKEN": "mine"}) == "mine"
    asked = (tmp_path / "bin" / "asked").read_text(encoding="utf-8").splitlines()
    assert asked == [
        f"auth token --hostname {host}" for host in ("github.com", "git.example.com", "octo.ghe.com")
    ]


@pytest.mark.parametrize("token", ["a b", "a\nb", "a\x1b[31m", "ä"])
def test_a_malformed_token_is_refused_by_its_variable(token: str) -> None:
    with pytest.raises(UsageError, match="GH_TOKEN has a character that no token has") as caught:
        find_token(COM, {"GH_TOKEN": token, "PATH": ""})
    assert token not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("remotes", "environ", "expected"),
    [
        ({"origin": "git@github.com:ann/shop.git"}, {}, "github.com ann/shop"),
        (
            {"origin": "git@github.com:ann/shop.git", "upstream": "https://github.com/octo/shop"},
            {},
            "github.com octo/shop",
        ),
        (
            {"origin": "git@github.com:ann/shop.git", "upstream": "https://gitlab.com/octo/shop"},
            {},
            "github.com ann/shop",
        ),
        ({"a": "../shop", "b": "https://github.com/octo/shop"}, {}, "github.com octo/shop"),
        (
            {"origin": "https://github.com/ann/shop", "mine": "https://github.com/bob/shop"},
            {"gh-resolved": "base"},
            "github.com bob/shop",
        ),
        (
            {"origin": "https://github.com/ann/shop", "mine": "https://github.com/bob/shop"},
            {"gh-resolved": "octo/shop"},
            "github.com octo/shop",
        ),
        ({"origin": "https://github.com/ann/shop"}, {"GH_REPO": "octo/shop"}, "github.com octo/shop"),
        ({}, {"GH_REPO": "octo.ghe.com/octo/shop"}, "octo.ghe.com octo/shop"),
        ({}, {"GH_REPO": "https://github.com/octo/shop.git"}, "github.com octo/shop"),
        ({"origin": f"https://{OURS}/octo/shop"}, {"GH_HOST": OURS}, f"{OURS} octo/shop"),
        ({}, {"GH_REPO": "octo/shop", "GH_HOST": OURS}, f"{OURS} octo/shop"),
        ({"origin": "gh:octo/shop"}, {"insteadOf": "gh:"}, "github.com octo/shop"),
        ({}, {}, "this clone has no remote on GitHub"),
        ({"origin": "../shop"}, {}, "this clone has no remote on GitHub"),
        ({"origin": "https://gitlab.com/octo/shop"}, {}, "on GitHub (they are on gitlab.com)"),
        ({"origin": "https://github.com.evil.com/octo/shop"}, {}, "(they are on github.com.evil.com)"),
        ({"origin": "https://evilghe.com/octo/shop"}, {}, "(they are on evilghe.com)"),
        ({"origin": f"https://{OURS}/octo/shop"}, {"GH_HOST": "github.com"}, f"(they are on {OURS})"),
        ({}, {"GH_REPO": "gitlab.com/octo/shop"}, "is not [HOST/]OWNER/NAME of GitHub"),
        ({}, {"GH_REPO": "shop"}, "is not [HOST/]OWNER/NAME of GitHub"),
        ({}, {"GH_REPO": "a/b/c/d"}, "is not [HOST/]OWNER/NAME of GitHub"),
    ],
)  # fmt: skip
def test_the_repository_is_found_as_gh_finds_it(
    repo: Repo, remotes: dict[str, str], environ: dict[str, str], expected: str
) -> None:
    for name, address in remotes.items():
        repo.git("remote", "add", "--", name, address)
    if "gh-resolved" in environ:
        repo.git("config", "remote.mine.gh-resolved", environ["gh-resolved"])
    if "insteadOf" in environ:
        repo.git("config", "url.https://github.com/.insteadOf", environ["insteadOf"])
    try:
        found = " ".join(find_repository(repo.root, {**environ, "PATH": ""}))
    except UsageError as error:
        found = str(error)
    assert found.endswith(expected)


@pytest.mark.slow
def test_a_host_that_gh_knows_is_an_enterprise_server(repo: Repo, gh: Callable[..., dict[str, str]]) -> None:
    repo.git("remote", "add", "origin", "git@git.example.com:octo/shop.git")
    assert find_repository(repo.root, gh(git_example_com="gho_2")) == SERVER


@pytest.fixture
def served(github: GitHubServer, request_: PullRequest) -> GitHubServer:
    """The origin on an Enterprise Server, public, with the pull request of a fork."""
    request_.origin.git("update-ref", "refs/pull/7/head", request_.head)
    request_.origin.git("branch", "-D", "feature")
    github.serve_git(request_.folder / "server")
    github.pulls[7] = Pull("main", request_.head, "mallory/shop")
    return github


@pytest.fixture
def work(served: GitHubServer, request_: PullRequest, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """A clone of it, on a branch of its own with a change that is not committed."""
    repo = make_repo(request_.folder / "clone")
    repo.git("remote", "add", "origin", f"{served.url}/octo/shop.git")
    repo.git("fetch", "-q", "origin", request_.common)
    repo.git("checkout", "-q", "-b", "mine", "FETCH_HEAD")
    repo.write("mine.py", "mine = 1\n")
    repo.write(".aethr.yaml", WORKFLOW)
    monkeypatch.setenv("GH_HOST", served.url.removeprefix("http://"))
    monkeypatch.setenv("RUNNER_TEMP", str(request_.folder))
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.chdir(repo.root)
    return repo


@pytest.fixture
def review(
    work: Repo, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Done]:
    """``review("7", server, "--fail-on", "high")``: a live run on the pull request."""

    def run(number: str, models: ModelServer | None = None, *words: str) -> Done:
        with monkeypatch.context() as patch:
            if models is not None:
                patch.setenv("AETHR_LIVE", "1")
                patch.setenv("OPENAI_BASE_URL", models.base_url)
                patch.setenv("OPENAI_API_KEY", KEY)
            code = main(["run", "--pull-request", number, *words, "review it"])
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return run


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "code"), [(PASS, 0), (REVISE, 1)])
def test_a_pull_request_is_reviewed_in_the_terminal(
    review: Callable[..., Done],
    work: Repo,
    served: GitHubServer,
    request_: PullRequest,
    answer: str,
    code: int,
) -> None:
    before = work.git("for-each-ref"), work.git("status", "--porcelain"), work.git("rev-parse", "HEAD")
    settings = (work.root / ".git" / "config").read_text(encoding="utf-8")
    with ModelServer([text(answer)]) as models:
        done = review("7", models, "--fail-on", "high", "--json")
    assert done.code == code, done.err
    prompt = models.bodies[0]["messages"][0]["content"]
    assert "+    return sum(prices) + 1" in prompt
    assert "other.py" not in prompt
    assert "mine.py" not in prompt
    scope = done.record["scope"]
    assert (scope["base"], scope["head"], scope["base_side"]) == (
        request_.common,
        request_.head,
        request_.base,
    )
    assert "note: pull request 7 of octo/shop; nothing is posted there" in done.err
    assert (
        work.git("for-each-ref"),
        work.git("status", "--porcelain"),
        work.git("rev-parse", "HEAD"),
    ) == before
    assert (work.root / ".git" / "config").read_text(encoding="utf-8") == settings
    assert not (work.root / ".git" / "FETCH_HEAD").read_text(encoding="utf-8").count(request_.head)
    assert [(each["method"], each["path"]) for each in served.requests] == [
        ("GET", "/repos/octo/shop/pulls/7")
    ]


@pytest.mark.slow
def test_the_prompt_can_be_shown_without_a_call(review: Callable[..., Done], served: GitHubServer) -> None:
    done = review("7", None, "--show-prompt")
    assert done.code == 0, done.err
    assert "+    return sum(prices) + 1" in done.out
    assert "mine.py" not in done.out


@pytest.mark.slow
def test_a_closed_pull_request_can_still_be_read(review: Callable[..., Done], served: GitHubServer) -> None:
    served.pulls[7].state = "closed"
    assert "pull request 7 of octo/shop, which is closed; nothing is posted there" in review("7").err


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["shallow", "partial"])
def test_any_clone_will_do(
    review: Callable[..., Done],
    served: GitHubServer,
    request_: PullRequest,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    request_.origin.git("config", "uploadpack.allowFilter", "true")
    options = {"shallow": ["--depth=1"], "partial": ["--filter=blob:none"]}[kind]
    root = request_.folder / kind
    request_.origin.git("clone", "-q", *options, f"{served.url}/octo/shop.git", str(root))
    monkeypatch.chdir(root)
    with ModelServer([text(PASS)]) as models:
        done = review("7", models, "--preset", "review-existing-diff", "--fail-on", "high")
    assert done.code == 0, done.err
    prompt = models.bodies[0]["messages"][0]["content"]
    assert "+    return sum(prices) + 1" in prompt
    assert "other.py" not in prompt


@pytest.mark.slow
def test_a_base_branch_that_is_gone_is_named(review: Callable[..., Done], served: GitHubServer) -> None:
    served.pulls[7].base = "release"
    done = review("7")
    assert done.code == 3
    assert "the base branch of pull request 7, 'release', is gone" in done.err


@pytest.mark.slow
def test_the_operators_own_workflow_reviews_it(
    review: Callable[..., Done], work: Repo, request_: PullRequest
) -> None:
    work.write(".aethr.yaml", WORKFLOW.replace('"Review."', '"Review as I say."'))
    with ModelServer([text(PASS)]) as models:
        assert review("7", models, "--fail-on", "high").code == 0
    assert "\nReview as I say.\n" in models.bodies[0]["messages"][0]["content"]


@pytest.mark.slow
def test_a_private_repository_takes_the_token_for_api_and_git(
    review: Callable[..., Done], served: GitHubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.private = True
    monkeypatch.setenv("GITHUB_TOKEN", "ghp_of_github_com_000000")
    refused = review("7")
    assert refused.code == 2
    assert "or it needs a token and there is none" in refused.err
    assert "GH_ENTERPRISE_TOKEN" in refused.err
    monkeypatch.setenv("GH_ENTERPRISE_TOKEN", TOKEN)
    with ModelServer([text(PASS)]) as models:
        done = review("7", models, "--fail-on", "high")
    assert done.code == 0, done.err
    assert TOKEN not in done.out + done.err


@pytest.mark.slow
@pytest.mark.parametrize("workflow", [AGENT, COMMAND, LOOP])
def test_agents_and_commands_are_refused_before_the_first_request(
    review: Callable[..., Done], work: Repo, served: GitHubServer, workflow: str
) -> None:
    work.write(".aethr.yaml", workflow)
    with ModelServer() as models:
        done = review("7", models)
    assert (done.code, models.bodies, served.requests) == (2, [], [])
    assert "but this pull request is not checked out" in done.err
    context = review("7", None, "--preset", "review-existing-diff", "--context", "command:touch pwned")
    assert context.code == 2
    assert "runs `touch pwned`" in context.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "words", "says"),
    [
        ("8", (), "there is no pull request 8 of octo/shop on 127.0.0.1"),
        ("7", ("--diff", "HEAD"), "--diff and --pull-request exclude each other"),
        ("0", (), "--pull-request 0: not a positive number"),
        ("-1" + "0" * 400, (), "not a positive number"),
        ("seven", (), "--pull-request"),
    ],
)
def test_a_mistake_is_one_line(
    review: Callable[..., Done], number: str, words: tuple[str, ...], says: str
) -> None:
    done = review(number, None, *words)
    assert done.code == 2
    assert says in done.err.splitlines()[0]


@pytest.mark.slow
def test_outside_of_a_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", "--pull-request", "7", "--preset", "review-existing-diff", "x"]) == 2
    assert "is not in a git repository" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [
        (401, ApiError, "GitHub does not know this token"),
        (403, ApiError, "GitHub answered 403"),
        (301, UsageError, "octo/shop on 127.0.0.1"),
        (500, ApiError, "GitHub answered 500"),
        (0, ApiError, "GitHub cannot be reached"),
    ],
)
def test_a_server_that_does_not_answer(
    work: Repo,
    served: GitHubServer,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    kind: type[Exception],
    says: str,
) -> None:
    host = served.url.removeprefix("http://")
    if status:
        for _ in range(4):
            served.fail("GET", status)
    else:
        work.git("remote", "set-url", "origin", "http://127.0.0.1:1/octo/shop")
        host = "127.0.0.1:1"
    given = RunOptions(pull_request=7, preset="review-existing-diff")
    waits: list[float] = []
    with pytest.raises(kind, match=says) as caught:
        open_pull_request(given, work.root, {"GH_HOST": host, "PATH": ""}, waits.append)
    assert (len(waits) > 0) == (status in (0, 500))
    assert "github-token" not in caught.value.fix  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_resume_asks_for_the_pull_request_again(
    review: Callable[..., Done], work: Repo, tmp_path: Path
) -> None:
    work.write(".aethr.yaml", TWO_STEPS)
    with ModelServer([text("A thought."), error(401, "bad key")]) as models:
        stopped = review("7", models)
    assert stopped.code == 3
    [line] = [line for line in stopped.err.splitlines() if "--resume-checkpoint" in line]
    assert "--pull-request 7" in line
    checkpoint = line.split("--resume-checkpoint ")[1].split()[0]
    with ModelServer([text(PASS)]) as models:
        done = review("7", models, "--resume-checkpoint", checkpoint)
    assert (done.code, len(models.bodies)) == (0, 1), done.err
