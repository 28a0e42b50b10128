from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from aethr.base.records import Allowance, ModelSpec, Request
from aethr.llm import spending
from aethr.llm.spending import lookup


def test_a_known_model_has_prices_and_sizes() -> None:
    price = lookup("openai:gpt-4o-mini")
    assert price is not None
    assert price.input_usd == pytest.approx(1.5e-07)
    assert price.output_usd == pytest.approx(6e-07)
    assert (price.window, price.max_output) == (128_000, 16_384)


def test_both_spellings_and_provider_names_find_the_same_row() -> None:
    assert lookup("google:gemini-2.5-pro") == lookup("gemini/gemini-2.5-pro")
    assert lookup("google:gemini-2.5-pro") is not None


@pytest.mark.parametrize("name", ["openai:no-such-model", "hosted_vllm:gpt-4o-mini", "nobody:gpt-4o-mini"])
def test_a_model_outside_the_price_file_is_unknown(name: str) -> None:
    assert lookup(name) is None


def test_a_price_of_zero_means_free_only_on_your_own_server() -> None:
    preview = lookup("google:gemma-3-27b-it")
    local = lookup("ollama:llama3")
    assert preview is not None
    assert local is not None
    assert (preview.input_usd, preview.output_usd) == (None, None)
    assert preview.window == 131_072
    assert spending.cost("google:gemma-3-27b-it", spending.Tokens(10, 3)) is None
    assert spending.cost("ollama:llama3", spending.Tokens(10, 3)) == 0.0


def test_litellm_is_not_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from aethr.llm.spending import lookup; assert lookup('openai:gpt-4o-mini');"
        "sys.exit('litellm' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == 0


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"gpt-4o-mini": ', b"\xff", b'{"gpt-4o-mini": 3}'])
def test_prices_are_unknown_without_a_sound_price_file(tmp_path: Path, content: bytes | None) -> None:
    package = tmp_path / "litellm"
    package.mkdir()
    (package / "__init__.py").touch()
    if content is not None:
        (package / "model_prices_and_context_window_backup.json").write_bytes(content)
    code = "from aethr.llm.spending import lookup; assert lookup('openai:gpt-4o-mini') is None"
    search = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); "
    done = subprocess.run([sys.executable, "-c", search + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_name_that_stands_for_another_has_its_row(tmp_path: Path) -> None:
    row = '{"litellm_provider": "PROVIDER", "input_cost_per_token": 1, "output_cost_per_token": 2}'
    rows = {
        "gpt-latest": '{"alias_of": "gpt-9"}',
        "gpt-9": row.replace("PROVIDER", "openai"),
        "xai/grok-latest": '{"alias_of": "xai/grok-9"}',
        "xai/grok-9": row.replace("PROVIDER", "xai"),
        "gpt-lost": '{"alias_of": "gpt-0"}',
        "gpt-other": '{"alias_of": "xai/grok-9"}',
        "gpt-twice": '{"alias_of": "gpt-latest"}',
    }
    package = tmp_path / "litellm"
    package.mkdir()
    (package / "__init__.py").touch()
    text = "{" + ", ".join(f'"{name}": {value}' for name, value in rows.items()) + "}"
    (package / spending.FILE).write_text(text)
    code = """
from aethr.llm.spending import lookup, served_as
for name in ("openai:gpt-9", "openai:gpt-latest", "xai/grok-latest"):
    print(served_as(name), lookup(name).output_usd)
for name in ("openai:gpt-lost", "openai:gpt-other", "openai:gpt-twice", "openai:unknown"):
    print(served_as(name), lookup(name))
"""
    search = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); "
    done = subprocess.run([sys.executable, "-c", search + code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "openai:gpt-9 2",
        "openai:gpt-9 2",
        "xai:grok-9 2",
        "openai:gpt-lost None",
        "openai:gpt-other None",
        "openai:gpt-twice None",
        "openai:unknown None",
    ]


# --- a budget for calls that run at once ---------------------------------------------------------


def requests_of(
    *prompts: int, model: str = "openai:gpt-4o-mini", max_tokens: int | None = None
) -> list[Request]:
    """Requests whose prompts are estimated at so many tokens."""
    spec = ModelSpec(model, max_tokens=max_tokens)
    return [Request("r", "r", "x" * (spending.BYTES_PER_TOKEN * tokens), spec, Path()) for tokens in prompts]


@pytest.mark.parametrize(
    ("left", "limits"),
    [
        (Allowance(tokens=100_000), [16_384, 16_384, 16_384]),  # all fit as they are
        (Allowance(tokens=36_000), [10_000, 10_000, 10_000]),
        (Allowance(tokens=10_000), [4_096, 4_096, 4_096]),  # a usual answer: the last calls wait
        (Allowance(cost_usd=0.0009 + 3 * 0.003), [5_000, 5_000, 5_000]),  # 0.15 and 0.6 dollars a million
        (Allowance(cost_usd=0.0009 + 3 * 0.003, tokens=20_000), [4_666, 4_666, 4_666]),
    ],
)
def test_calls_at_once_get_the_largest_equal_limit_that_fits(left: Allowance, limits: list[int]) -> None:
    requests = requests_of(1_000, 2_000, 3_000)
    shares = spending.share(requests, left)
    sent = [
        spending.answer_tokens(request._replace(allowance=share))
        for request, share in zip(requests, shares, strict=True)
    ]
    assert sent == [pytest.approx(limit, abs=1) for limit in limits]


def test_a_share_covers_its_own_call_whatever_the_order() -> None:
    one, other = requests_of(1_000), requests_of(9_000, max_tokens=100)
    left = Allowance(tokens=20_000)
    assert spending.share([*one, *other], left) == list(reversed(spending.share([*other, *one], left)))
    assert [each.tokens for each in spending.share([*one, *other], left)] == [10_900, 9_100]


def test_a_call_of_unknown_price_may_need_all_that_is_left() -> None:
    left = Allowance(cost_usd=1.0)
    shares = spending.share(requests_of(1_000, 1_000, model="openrouter:acme/unknown"), left)
    assert shares == [left, left]


def test_the_worst_case_pays_for_a_prompt_written_to_a_cache() -> None:
    """A run marks a place for a later call, which may never come."""
    priced = 0
    for name in ("anthropic:claude-sonnet-5-5", "openai:gpt-6-sol", "openai:gpt-5.4-mini", "xai:grok-4.7"):
        for prompt in (1_000, 250_000, 600_000):
            rates = spending.highest_rates(name, prompt)
            written = spending.cost(name, spending.Tokens(prompt, 500, cached=0, written=prompt))
            if rates is None or written is None:
                continue
            assert written <= rates.cost(prompt, 500) * (1 + 1e-9)
            priced += 1
    assert priced == 12
