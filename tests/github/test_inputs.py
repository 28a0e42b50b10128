"""Inputs: ``action.yml`` and the code agree, values are typed, and an error names its input."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from aethr.base.errors import UsageError
from aethr.base.options import OPTIONS
from aethr.config import read_preset, workflow_file
from aethr.github import inputs
from aethr.github.inputs import environment
from aethr.workflow.planning import vocabulary

ROOT = Path(__file__).parents[2]
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
MERGE: dict[str, Any] = yaml.safe_load((ROOT / "merge" / "action.yml").read_text(encoding="utf-8"))
REVIEW = next(step for step in ACTION["runs"]["steps"] if step.get("id") == "review")
MERGING = next(step for step in MERGE["runs"]["steps"] if step.get("id") == "merge")
WORKFLOW = workflow_file.parse(read_preset("review-existing-diff"), "preset", vocabulary())


@pytest.mark.parametrize(("action", "step"), [(ACTION, REVIEW), (MERGE, MERGING)], ids=["review", "merge"])
def test_every_input_becomes_a_variable_that_is_read(action: dict[str, Any], step: dict[str, Any]) -> None:
    """By hand, because a composite action gets no INPUT_ variables."""
    mapped = {
        name: match[1]
        for name, value in step["env"].items()
        if (match := re.fullmatch(r"\$\{\{ inputs\.([a-z-]+) \}\}", value))
    }
    assert set(mapped.values()) | {"python-version"} == set(action["inputs"])
    options = {option.variable: option.flag.removeprefix("--") for option in OPTIONS}
    for variable, name in mapped.items():
        known = (options.get(variable), "github-token" if variable == "GITHUB_TOKEN" else None)
        assert name in known or variable == inputs.variable(name)


def test_every_variable_that_is_read_is_an_input() -> None:
    source = (ROOT / "aethr/github/inputs.py").read_text(encoding="utf-8")
    read = {inputs.variable(name) for name in re.findall(r'environ, "([a-z-]+)"', source)}
    assert read == {name for name in REVIEW["env"] if name.startswith(inputs.PREFIX)} - {"AETHR_ACTION_CARRY"}


def test_the_defaults_of_the_inputs_are_valid() -> None:
    values = {name: str(spec["default"]) for name, spec in ACTION["inputs"].items()}
    environ = {
        variable: values[match[1]]
        for variable, value in REVIEW["env"].items()
        if (match := re.fullmatch(r"\$\{\{ inputs\.([a-z-]+) \}\}", value))
    }
    read = inputs.read(environ)
    assert read.run.task == inputs.TASK
    assert (read.run.require_review, read.run.fail_on) == (True, "never")
    assert read.config_from_base
    assert (read.comment, read.max_inline) == (True, None)
    assert not any((read.allow_agents, read.allow_commands, read.allow_target))


@pytest.mark.parametrize(
    ("comment", "number", "read"),
    [
        ("", "", (True, None)),
        ("true", "5", (True, None)),
        ("false", "", (False, None)),
        ("inline", "", (True, 15)),
        ("Inline", "100", (True, 100)),
    ],
)
def test_what_is_posted(comment: str, number: str, read: tuple[bool, int | None]) -> None:
    found = inputs.read({"AETHR_ACTION_COMMENT": comment, "AETHR_ACTION_MAX_INLINE": number})
    assert (found.comment, found.max_inline) == read


@pytest.mark.parametrize("action", [ACTION, MERGE], ids=["review", "merge"])
def test_no_expression_reaches_a_shell(action: dict[str, Any]) -> None:
    scripts = [step for step in action["runs"]["steps"] if "run" in step]
    assert scripts
    assert not [step for step in scripts if "${{" in step["run"]]
    assert {step["shell"] for step in scripts} == {"bash"}
    assert not [
        step for step in scripts if "aethr-venv" in step["run"] and not step["run"].startswith("exec ")
    ]


@pytest.mark.parametrize(
    ("shard", "suffix"), [("1/3", "-1-3"), ("10/10", "-10-10"), ("$(touch x)\n::/../é", "-" * 19)]
)
def test_the_name_of_a_shards_cache_is_a_plain_word(tmp_path: Path, shard: str, suffix: str) -> None:
    [script] = [step["run"] for step in ACTION["runs"]["steps"] if step.get("id") == "shard"]
    output = tmp_path / "output"
    environ = {
        "PATH": os.environ["PATH"],
        "AETHR_RUN_SHARD": shard,
        "GITHUB_OUTPUT": str(output),
        "LC_ALL": "C.UTF-8",
    }
    subprocess.run(["bash", "-euo", "pipefail", "-c", script], env=environ, cwd=tmp_path, check=True)
    assert output.read_text(encoding="utf-8") == f"suffix={suffix}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["output"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AETHR_ACTION_COMMENT", "yes"),
        ("AETHR_ACTION_MAX_INLINE", "0"),
        ("AETHR_ACTION_MAX_INLINE", "101"),
        ("AETHR_ACTION_MAX_INLINE", "many"),
        ("AETHR_ACTION_CONFIG_FROM", "fork"),
        ("AETHR_ACTION_COMMENT_KEY", "a --> b"),
        ("AETHR_ACTION_COMMENT_KEY", "x" * 61),
        ("AETHR_RUN_FAIL_ON", "hgih"),
        ("AETHR_RUN_MAX_COST", "1 dollar"),
        ("AETHR_RUN_REQUIRE_REVIEW", "on"),
    ],
)
def test_a_mistake_is_refused(variable: str, value: str) -> None:
    with pytest.raises(UsageError) as caught:
        inputs.read({variable: value})
    assert value[:60] in str(caught.value)


def test_an_unknown_gate_is_refused() -> None:
    with pytest.raises(UsageError, match="AETHR_RUN_FAIL: no option has this name"):
        inputs.read({"AETHR_RUN_FAIL": "high"})


def test_options_that_are_not_inputs_are_ignored() -> None:
    named = ("DIFF", "REPORT", "REPLIES", "STEP", "CONTEXT")
    others = {f"AETHR_RUN_{name}": "/etc/x" for name in named}
    read = inputs.read({"AETHR_RUN_SHOW_PROMPT": "1", "AETHR_RUN_SAVE": "1", **others})
    assert read.run == inputs.read({}).run


@pytest.mark.parametrize(
    ("environ", "live", "key"),
    [
        ({"AETHR_RUN_REQUIRE_REVIEW": "true"}, "1", None),
        ({"AETHR_RUN_REQUIRE_REVIEW": "false"}, "0", None),
        ({"AETHR_RUN_REQUIRE_REVIEW": "false", "AETHR_RUN_FAIL_ON": "high"}, "1", None),
        ({"OPENAI_API_KEY": "sk-12345678"}, "1", "sk-12345678"),
        ({"AETHR_RUN_MODEL": "ollama:llama3"}, "1", None),
        ({"AETHR_ACTION_API_KEY": "sk-abcdefgh"}, "1", "sk-abcdefgh"),
        ({"AETHR_ACTION_API_KEY": "sk-abcdefgh", "AETHR_LIVE": "0"}, "0", "sk-abcdefgh"),
    ],
)
def test_live_or_mock(environ: dict[str, str], live: str, key: str | None) -> None:
    settings = environment(inputs.read(environ), WORKFLOW, environ)
    assert settings["AETHR_LIVE"] == live
    assert settings.get("OPENAI_API_KEY") == key


def test_the_key_goes_to_the_provider_of_the_model() -> None:
    given = {"AETHR_ACTION_API_KEY": "sk-abcdefgh", "AETHR_RUN_MODEL": "anthropic:claude-sonnet-4-20250514"}
    settings = environment(inputs.read(given), WORKFLOW, given)
    assert settings["ANTHROPIC_API_KEY"] == "sk-abcdefgh"
    assert "OPENAI_API_KEY" not in settings


def test_api_key_for_two_providers_is_refused() -> None:
    mixed = (
        read_preset("review-existing-diff")
        .replace("models:", "models:\n  writer: xai:grok-4\n", 1)
        .replace("roles:", "roles:\n  writer: Write.", 1)
        .replace("steps:", "steps:\n  - {id: a, role: writer}", 1)
    )
    workflow = workflow_file.parse(mixed, "mixed", vocabulary())
    with pytest.raises(UsageError, match="OPENAI_API_KEY and XAI_API_KEY"):
        environment(inputs.read({"AETHR_ACTION_API_KEY": "sk-abcdefgh"}), workflow, {})
