"""``aethr models``: what it lists, in which form, and the names that it suggests for an unknown one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from aethr.base.providers import LOGINS, NAMED, PROVIDERS
from aethr.llm import catalog, effort, spending
from tests.cli.test_terminal import typed
from tests.model_server import ModelServer
from tests.support import Repo, aethr

KEY = "sk-test-0123456789"
CHAT = {"mode": "chat", "input_cost_per_token": 1e-6, "output_cost_per_token": 2.5e-6}
ROWS: Mapping[str, Any] = {
    "sample_spec": {"litellm_provider": "one of many", "mode": "one of: chat"},
    "gpt-9": {
        **CHAT, "litellm_provider": "openai", "max_input_tokens": 272_000, "max_output_tokens": 64_000,
        "supports_reasoning": True, "supports_minimal_reasoning_effort": False,
    },
    "gpt-9-pro": {**CHAT, "litellm_provider": "openai", "mode": "responses"},
    "gpt-9-tiny": {**CHAT, "litellm_provider": "openai", "input_cost_per_token": 3.75e-8},
    "gpt-9-latest": {"alias_of": "gpt-9"},
    "gpt-8": {**CHAT, "litellm_provider": "openai"},
    "gpt-8-2020-01-01": {**CHAT, "litellm_provider": "openai", "deprecation_date": "2020-06-01"},
    "gpt-image": {**CHAT, "litellm_provider": "openai", "mode": "image_generation"},
    "gemini/gemini-9": {**CHAT, "litellm_provider": "gemini", "deprecation_date": "2999-01-31"},
    "gemini-9": {**CHAT, "litellm_provider": "vertex_ai-language-models"},
    "anthropic.claude-9": {**CHAT, "litellm_provider": "bedrock_converse"},
    "newco/model": {**CHAT, "litellm_provider": "newco", "max_input_tokens": "many"},
    "ollama/llama9": {"litellm_provider": "ollama", "mode": "chat", "max_input_tokens": 8192},
    "broken": [],
    "no provider": {"mode": "chat"},
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, repo: Repo) -> Path:
    package = tmp_path / "fake" / "litellm"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / spending.FILE).write_text(json.dumps(ROWS))
    return repo.root


def run(folder: Path, *words: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """``aethr models`` with the price file ``ROWS``, and with no other variable than ``env``."""
    fake = next(path for path in folder.parents if (path / "fake").is_dir()) / "fake"
    code = f"import sys; sys.path.insert(0, {str(fake)!r}); from aethr.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, "models", *words],
        cwd=folder,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )


def names(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line.partition("\t")[0] for line in done.stdout.splitlines()]


def test_a_line_has_what_a_run_would_do(folder: Path) -> None:
    done = run(folder, "gpt-9", env={"OPENAI_API_KEY": KEY})
    assert (done.returncode, done.stderr) == (0, "")
    lines = {line.partition("\t")[0]: line.split("\t")[1:] for line in done.stdout.splitlines()}
    assert lines["openai:gpt-9"] == [
        "1.00", "2.50", "272000", "64000", "none,low,medium,high", "", "chat", "OPENAI_API_KEY",
    ]  # fmt: skip
    assert lines["openai:gpt-9-latest"] == lines["openai:gpt-9"]
    assert lines["openai:gpt-9-tiny"][0] == "0.0375"
    assert KEY not in done.stdout
    missing = run(folder, "gpt-9-tiny").stdout.split("\t")
    assert missing[-1] == "OPENAI_API_KEY is not set\n"
    through = run(folder, "gpt-9-tiny", env={"AETHR_TRANSPORT": "litellm"}).stdout.split("\t")
    assert through[7] == "LiteLLM"
    refused = run(folder, "gemini:gemini-9", env={"AETHR_TRANSPORT": "direct"}).stdout.split("\t")
    assert refused[7] in ("", "gemini")


def test_every_kind_of_row_has_its_name(folder: Path) -> None:
    listed = names(run(folder, "--all"))
    assert listed[:6] == [
        "openai:gpt-8", "openai:gpt-8-2020-01-01", "openai:gpt-9", "openai:gpt-9-latest", "openai:gpt-9-pro",
        "openai:gpt-9-tiny",
    ]  # fmt: skip
    assert {"google:gemini-9", "vertex_ai:gemini-9", "bedrock:anthropic.claude-9", "ollama:llama9"} <= set(
        listed
    )
    assert {"openrouter:NAME", "lm_studio:NAME", "anthropic:NAME", "newco:model"} <= set(listed)
    assert not [name for name in listed if "image" in name or "broken" in name or "sample" in name]
    assert len(listed) == len(set(listed))


def test_json_has_the_same(folder: Path) -> None:
    done = run(folder, "--json", "gemini-9", env={"GEMINI_API_KEY": KEY})
    google, vertex = json.loads(done.stdout)
    assert (google["name"], google["input_usd"], google["output_usd"]) == ("google:gemini-9", 1.0, 2.5)
    assert (google["retires"], google["retired"]) == ("2999-01-31", False)
    assert (google["key"], google["key_set"]) == ("GEMINI_API_KEY", True)
    assert (vertex["name"], vertex["lane"], vertex["key"], vertex["key_set"]) == (
        "vertex_ai:gemini-9", "litellm", None, False,
    )  # fmt: skip
    assert (google["window"], google["effort"]) == (None, [])
    assert KEY not in done.stdout


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("GPT", "tiny"), ["openai:gpt-9-tiny"]),
        (("gpt tiny",), ["openai:gpt-9-tiny"]),
        (("openai/gpt-9-t",), ["openai:gpt-9-tiny"]),
        (("gemini/gemini",), ["google:gemini-9"]),
        (("gemini:gemini",), ["google:gemini-9"]),
        (("vllm",), ["hosted_vllm:NAME"]),
        (("lm-studio",), ["lm_studio:NAME"]),
        (("ollama_chat/llama",), ["ollama:llama9"]),
    ],
)
def test_all_words_match_in_any_spelling(folder: Path, words: tuple[str, ...], found: list[str]) -> None:
    assert names(run(folder, *words)) == found


def test_without_text_the_models_that_can_be_called_are_listed(folder: Path) -> None:
    with_key = names(run(folder, env={"GEMINI_API_KEY": KEY}))
    assert with_key == ["google:gemini-9", "lm_studio:NAME", "hosted_vllm:NAME", "ollama:llama9"]
    without = names(run(folder))
    assert {"openai:gpt-9", "google:gemini-9"} <= set(without)
    assert "newco:model" not in without


def test_a_key_in_dotenv_counts(folder: Path) -> None:
    (folder / ".env").write_text(f"OPENAI_API_KEY={KEY}\n")
    assert run(folder, "gpt-9-tiny").stdout.endswith("\tOPENAI_API_KEY\n")


def test_retired_models_are_listed_on_request(folder: Path) -> None:
    """A name without a date is retired with its last snapshot."""
    done = run(folder, "gpt-8")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "no model matches 'gpt-8', but 2 retired models: --all lists them\n"
    assert names(run(folder, "gpt-8", "--all")) == ["openai:gpt-8", "openai:gpt-8-2020-01-01"]


def test_nothing_found_is_exit_1_with_the_nearest_names(folder: Path) -> None:
    done = run(folder, "gpt9-tiny")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("no model matches 'gpt9-tiny'; near: openai:gpt-9-tiny")
    assert done.stderr.count("\n") == 1
    done = run(folder, "--json", "zzz\x1b[31m")
    assert (done.returncode, json.loads(done.stdout)) == (1, [])
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("content", [b"", b"[]", b'{"gpt-9": ', b"\xff", b"[" * 100_000])
def test_a_broken_price_file_leaves_the_table(folder: Path, tmp_path: Path, content: bytes) -> None:
    next(tmp_path.rglob(spending.FILE)).write_bytes(content)
    done = run(folder, "--all")
    assert done.returncode == 0
    assert {f"{name}:NAME" for name in LOGINS} - {"gemini:NAME"} <= set(names(done))


def test_the_price_file_is_untrusted(folder: Path, tmp_path: Path) -> None:
    odd = {
        **CHAT,
        "litellm_provider": "openai",
        "max_input_tokens": 10**400,
        "reasoning_effort_levels": ["\x1b"],
    }
    rows = {
        "gpt\x1b[31m": odd, "gpt\u202e9": odd, "gpt\ud800": odd, "gpt\n9": odd, "gpt\t9": odd,
        "g" * 5000: odd,
        "x/m": {**odd, "litellm_provider": "\x1b]0;x"}, "y/m": {**odd, "litellm_provider": 3},
        "gpt-deep": {**odd, "deprecation_date": ["2020"], "alias_of": {"a": 1}, "mode": "chat"},
        "gpt-nan": {**odd, "input_cost_per_token": float("nan"), "output_cost_per_token": -1, "mode": "chat"},
    }  # fmt: skip
    next(tmp_path.rglob(spending.FILE)).write_text(json.dumps(rows))
    for words in (("--all",), ("--all", "--json")):
        done = run(folder, *words)
        assert (done.returncode, done.stderr) == (0, "")
        assert not {"\x1b", "\u202e", "\x9b"} & set(done.stdout)
        assert "gpt-deep" in done.stdout


@pytest.mark.parametrize("columns", [20, 40, 80, 160])
def test_a_terminal_gets_a_table_that_fits(repo: Repo, columns: int) -> None:
    code, screen = typed(
        ["models", "gpt-5.4", "openai:"], repo.root, COLUMNS=str(columns), OPENAI_API_KEY=KEY
    )
    assert code == 0
    table = screen.replace("\r", "").partition("\n\n")[0].splitlines()
    assert all(len(line) <= columns for line in table)
    assert len(table) > 2
    assert ("effort" in table[0]) is (columns == 160)
    assert "\x1b" not in screen
    assert KEY not in screen
    assert columns < 80 or "Key set: openai (OPENAI_API_KEY)." in screen


def test_every_name_is_one_that_a_run_reads() -> None:
    """Of LiteLLM's own file: names are found by the functions that price a run."""
    listed = [name for name in catalog.names() if not name.endswith(f":{catalog.ANY}")]
    assert len(listed) > 2000
    assert [name for name in listed if spending.price_row(name) is None] == []
    hosted = {name for name in NAMED if spending.price_row(name) is not None}
    assert hosted <= set(listed)
    assert all(words is None or isinstance(words, tuple) for words in map(effort.words, listed))


def test_litellm_is_not_imported(repo: Repo) -> None:
    code = (
        "import sys; from aethr.cli import main; main(['models', 'gpt']); sys.exit('litellm' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=repo.root, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


# --- a model that is not in the price file -------------------------------------------------------

WORKFLOW = "workflow: w\nroles: {r: x}\nmodels: {r: MODEL}\nsteps: [{id: a, role: r}]\n"


@pytest.mark.parametrize(
    ("model", "note"),
    [
        (
            "openai:gpt-5.4-mni",
            "openai:gpt-5.4-mni is not in LiteLLM's price file; near: openai:gpt-5.4-mini",
        ),
        (
            "gemini:gemini-2.5-prro",
            "gemini:gemini-2.5-prro is not in LiteLLM's price file; near: gemini:gemini",
        ),
        ("anthropic:x", "anthropic:x is not in LiteLLM's price file\n"),
        ("openai:gpt-5.4-mini", None),
        ("openrouter:any/model", None),
        ("ollama:any", None),
        ("azure:my-deployment", None),
    ],
)
def test_check_names_models_that_are_near(repo: Repo, model: str, note: str | None) -> None:
    repo.write(".aethr.yaml", WORKFLOW.replace("MODEL", f"'{model}'"))
    done = aethr("check", cwd=repo.root)
    assert done.returncode == 0
    assert ("price file" in done.stderr.replace("by LiteLLM's price file", "")) is (note is not None)
    assert note is None or f"note: {note}" in done.stderr


def test_nothing_is_said_of_a_model_on_a_server_elsewhere(repo: Repo) -> None:
    repo.write(".aethr.yaml", WORKFLOW.replace("MODEL", "openai:mine"))
    env = {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}
    assert "price file" not in aethr("check", cwd=repo.root, env=env).stderr


def test_a_live_run_says_so_before_the_call(repo: Repo) -> None:
    with ModelServer([]) as server:
        env = {
            "AETHR_LIVE": "1",
            "XAI_API_KEY": KEY,
            "HTTPS_PROXY": server.origin,
            "HTTP_PROXY": server.origin,
        }
        repo.write(".aethr.yaml", WORKFLOW.replace("MODEL", "{model: xai:grok-4.77, timeout_s: 1}"))
        done = aethr("run", "look", cwd=repo.root, env=env)
    assert done.returncode == 3
    assert "xai:grok-4.77 is not in LiteLLM's price file; near: xai:grok-4" in done.stderr


# --- keys ----------------------------------------------------------------------------------------


def test_a_key_that_login_stores_is_the_one_that_models_finds(repo: Repo) -> None:
    repo.write(".gitignore", ".env\n")
    for provider in LOGINS:
        done = aethr("auth", "login", provider, "--key-stdin", cwd=repo.root, stdin=f"{KEY}\n")
        assert done.returncode == 0, provider
    shown = aethr("auth", "status", cwd=repo.root).stdout.splitlines()
    assert {line.split()[0]: line.split()[1] for line in shown} == LOGINS
    listed = json.loads(aethr("models", "--json", cwd=repo.root).stdout)
    keys = {each["name"].partition(":")[0]: (each["key"], each["key_set"]) for each in listed}
    hosted = {name: key for name, key in LOGINS.items() if name in keys}
    assert len(hosted) == len(LOGINS) - 1  # gemini is listed as google
    assert {name: keys[name] for name in hosted} == {name: (key, True) for name, key in hosted.items()}


def test_every_row_with_a_key_can_log_in() -> None:
    assert set(LOGINS) == {name for name, row in PROVIDERS.items() if not row.own_server}
    assert "perplexity" in LOGINS


def test_status_shows_what_is_set_and_what_the_workflow_needs(repo: Repo) -> None:
    repo.write(".aethr.yaml", WORKFLOW.replace("MODEL", "anthropic:claude-sonnet-5-5"))
    shown = aethr("auth", "status", cwd=repo.root, env={"XAI_API_KEY": KEY, "AETHR_MODEL": "google:x"}).stdout
    *rows, others = shown.splitlines()
    assert [row.split()[0] for row in rows] == ["anthropic", "google", "xai"]
    assert others.startswith("no key, and not in the workflow: openai, ")
    repo.write(".aethr.yaml", "steps: [")
    assert aethr("auth", "status", cwd=repo.root).stdout.startswith("openai ")
