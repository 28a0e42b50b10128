"""The models that Aethr names: one table, each with a price and a future; and what is said of others."""

from __future__ import annotations

import datetime
import json
import re
from pathlib import Path

import pytest

from aethr.base import providers
from aethr.base.options import RunOptions
from aethr.base.providers import PROVIDERS, chain, provider_of, split
from aethr.cli import check
from aethr.config import PRESETS, read_preset, workflow_file
from aethr.llm import protocols, spending
from aethr.llm.effort import find_doubts
from aethr.run import prepare
from aethr.workflow import planning
from tests.pages import PAGES, of_kind
from tests.support import Repo

ROOT = Path(__file__).parents[2]
RELEASED = datetime.date.fromisoformat(providers.PRICES[1])
NAMING = [
    *PAGES,
    *sorted((ROOT / "presets").glob("*.yaml")),
    *sorted((ROOT / "examples").glob("*.yaml")),
    *sorted((ROOT / "aethr").rglob("*.py")),
    *sorted((ROOT / ".github").rglob("*.yml")),
    *(ROOT / name for name in ("action.yml", "aethr.schema.json", ".env.example", ".pre-commit-hooks.yaml")),
]
_PROVIDER = "|".join(map(re.escape, PROVIDERS))
_NAMED = re.compile(rf"(?<![@\w/])(?:{_PROVIDER})[:/](?=\w*[a-z])(?!//)[A-Za-z0-9][\w.:/-]*\w")
_BARE = re.compile(r"(?<![\w:/.-])(?:gpt-\d|claude-(?:[a-z]+-)?\d|grok-\d|gemini-\d|o\d-)[\w.-]*\w")
_A_PLACE = re.compile(r"[A-Z_]+|model|your-model")
"""What stands in for a name: ``openai:NAME``."""


def named_in(text: str) -> set[str]:
    names = {match[0] for match in _NAMED.finditer(text)}
    return {name for name in names if not _A_PLACE.fullmatch(split(name)[1])}


@pytest.mark.parametrize("file", NAMING, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_named_model_is_in_the_table(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert named_in(text) - set(providers.NAMED) == set()
    if file.suffix != ".py":  # there the protocol's rules know families by their names
        known = {split(name)[1] for name in providers.NAMED}
        assert set(_BARE.findall(text)) - known == set()


def test_the_search_finds_names() -> None:
    text = (
        'models: {a: openai:gpt-5, b: "xai/grok-4"} ollama:qwen3:8b, xai:NAME openai:…, openai: x, gpt-5-mini'
    )
    assert named_in(text) == {"openai:gpt-5", "xai/grok-4", "ollama:qwen3:8b"}
    assert _BARE.findall(text) == ["gpt-5-mini"]


@pytest.mark.parametrize("name", providers.NAMED)
def test_every_model_of_the_table_has_a_price_and_a_future(name: str) -> None:
    if not provider_of(name).needs_key:
        return  # a server of one's own: what it has, and until when, is its owner's business
    row = spending.price_row(name)
    assert row is not None
    assert row["mode"] == "chat"
    assert spending.highest_rates(name, 1000) is not None
    assert provider_of(name).name == "anthropic" or protocols.serves(name)
    retires = spending.retires(name)
    assert retires is None or (retires - RELEASED).days >= spending.SOON_DAYS


def test_the_presets_use_the_table_and_its_limit() -> None:
    for name in PRESETS:
        spec = planning.open_project(ROOT, None, name).workflow
        agents = {step.role for step in spec.steps if step.backend != "model"}
        for role, model in spec.models.items():
            assert model.name in providers.NAMED
            assert model.max_tokens == (None if role in agents else providers.ANSWER_LIMIT), (name, role)


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_examples_set_the_limit(example: Path) -> None:
    spec = planning.open_project(ROOT, str(example), None).workflow
    assert {model.max_tokens for model in spec.models.values()} == {providers.ANSWER_LIMIT}


def test_no_preset_example_or_page_has_settings_that_do_not_fit() -> None:
    """A model that thinks has room for it, and takes the effort that is set."""
    texts = {name: read_preset(name) for name in PRESETS}
    texts |= {str(path): path.read_text("utf-8") for path in sorted((ROOT / "examples").glob("*.yaml"))}
    texts |= {f"{block.page}:{block.line}": block.text for block in of_kind("file")}
    read = 0
    for name, text in texts.items():
        if "workflow:" not in text:  # another kind of file
            continue
        workflow = workflow_file.parse(text, name, planning.vocabulary())
        agents = {step.role for step in workflow.steps if step.backend != "model"}
        for role, model in workflow.models.items():
            found = [doubt for each in chain(model) if role not in agents for doubt in find_doubts(each)]
            assert not found, name
            read += 1
    assert read > 20


# --- models that retire ------------------------------------------------------------------------

SONNET = "anthropic:claude-sonnet-4-5"  # 2026-11-30, in the file of every LiteLLM that Aethr takes
NOTES = {
    datetime.date(2026, 8, 31): None,
    datetime.date(2026, 9, 1): f"{SONNET} retires on 2026-11-30 (by LiteLLM's price file)",
    datetime.date(2026, 11, 30): f"{SONNET} retires on 2026-11-30 (by LiteLLM's price file)",
    datetime.date(2026, 12, 1): f"{SONNET} was retired on 2026-11-30 (by LiteLLM's price file)",
}


@pytest.mark.parametrize("today", NOTES)
def test_check_and_a_live_run_warn_of_a_model_that_retires(
    repo: Repo,
    today: datetime.date,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    repo.write("a.py")
    repo.commit()
    models_of = f"{{reviewer: {SONNET}, second: {SONNET}}}"
    steps = "[{id: one, role: second}, {id: two, role: reviewer}]"
    repo.write(
        ".aethr.yaml",
        f"workflow: w\nroles: {{reviewer: strict, second: kind}}\nmodels: {models_of}\nsteps: {steps}\n",
    )
    monkeypatch.chdir(repo.root)
    assert check.main((), today=today) == 0
    note = NOTES[today]
    assert capsys.readouterr().err == (f"note: {note}\n" if note else "")
    live = {"AETHR_LIVE": "1", "ANTHROPIC_API_KEY": "sk-ant-0123456789"}
    prepared = prepare(RunOptions(task="look"), repo.root, live, today=today)
    assert prepared.warnings == ((note,) if note else ())
    assert prepare(RunOptions(task="look"), repo.root, {}, today=today).warnings == ()


@pytest.mark.parametrize(
    ("row", "snapshots", "date"),
    [
        ({}, {}, None),
        ({"deprecation_date": "2027-01-02"}, {}, "2027-01-02"),
        ({"deprecation_date": "soon"}, {}, None),
        ({"deprecation_date": 20270102}, {}, None),
        ({}, {"m-2026-01-01": "2027-01-02"}, "2027-01-02"),
        ({}, {"m-20260101": "2027-01-02", "m-2026-02-01": "2027-03-04"}, "2027-03-04"),
        ({}, {"m-2026-01-01": "2027-01-02", "m-2026-02-01": None}, None),
        ({}, {"m-mini-2026-01-01": "2027-01-02"}, None),
        ({"deprecation_date": "2027-01-02"}, {"m-2026-01-01": "2027-03-04"}, "2027-01-02"),
    ],
)
def test_an_undated_model_retires_with_its_last_snapshot(
    tmp_path: Path, row: dict[str, object], snapshots: dict[str, str | None], date: str | None
) -> None:
    import subprocess
    import sys

    openai = {"litellm_provider": "openai", "mode": "chat"}
    dated = {name: {**openai, "deprecation_date": day} if day else openai for name, day in snapshots.items()}
    (tmp_path / "litellm").mkdir()
    (tmp_path / "litellm" / "__init__.py").touch()
    (tmp_path / "litellm" / spending.FILE).write_text(json.dumps({"m": {**openai, **row}, **dated}))
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nfrom aethr.llm.spending import retires\n"
    code += "print(retires('openai:m'), retires('openai:unknown'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{date} None\n"
