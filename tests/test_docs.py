"""The pages are run: each block of commands in a world of its own, each file as what it says it is.

How a block says what it needs is in ``tests/pages.py``.
"""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from aethr import __version__
from aethr.base.errors import ExitCode
from aethr.base.options import HOOK_OPTIONS, OPTIONS
from aethr.base.providers import PROVIDERS, Provider
from aethr.base.records import (
    Artifacts,
    CommandCheck,
    Finding,
    LoopResult,
    Plan,
    Receipt,
    Review,
    RunResult,
    Scope,
    StepResult,
    Totals,
)
from aethr.config import PRESETS, REVIEW_PRESET, credentials, read_preset, workflow_file
from aethr.context import SOURCES
from aethr.engine.conditions import CONDITIONS
from aethr.evaluation import cases, scripted
from aethr.output.report import FORMATS, record
from aethr.workflow import backends, planning
from aethr.workflow.backends import BACKENDS
from tests.pages import ALLOWED, BLOCKS, PAGES, ROOT, Block, files_for, of_kind, output_of
from tests.support import make_repo
from tests.worlds import ANSWERS, BIN, Setting, built

Yaml = dict[str, Any]


# --- the blocks ----------------------------------------------------------------------------------


def test_every_block_says_how_it_is_tested() -> None:
    unmarked = [block.id for block in BLOCKS if block.kind not in ALLOWED.get(block.language, ())]
    assert unmarked == []


def test_every_output_stands_below_its_commands() -> None:
    shown = [output_of(block) for block in of_kind("run", "first command")]
    assert [block.id for block in of_kind("its output") if block not in shown] == []


@pytest.mark.slow
@pytest.mark.parametrize("block", of_kind("run"), ids=lambda block: block.id)
def test_the_commands_do_what_the_page_says(block: Block, tmp_path: Path) -> None:
    setting = Setting.of(block.about)
    with built(setting, files_for(block), tmp_path) as world:
        done = world.run(block.text)
    assert done.returncode == setting.exit, done.stdout
    if (shown := output_of(block)) is not None:
        assert_shows(shown.text, done.stdout)
    answers = ANSWERS.get(setting.answers)
    if world.server is not None and isinstance(answers, list):
        assert len(world.server.bodies) == len(answers)


def test_the_first_command_stands_before_line_20_and_shows_its_real_output(tmp_path: Path) -> None:
    (block,) = of_kind("first command")
    assert block.page == "README.md"
    assert block.line < 20
    command = block.text.splitlines()[-1]
    assert command.startswith(".venv/bin/aethr ")
    with built(Setting("a failing test"), {}, tmp_path) as world:
        done = world.run(command.removeprefix(".venv/bin/"))
    assert done.returncode == 0, done.stdout
    shown = output_of(block)
    assert shown is not None
    assert_shows(shown.text, done.stdout)


def assert_shows(shown: str, printed: str) -> None:
    """A page shows what was printed; a line ``…`` on the page stands for any lines."""
    lines = [re.escape(line) if line != "…" else "(?:.*\n)*?.*" for line in shape(shown).splitlines()]
    if re.fullmatch("\n".join(lines) + "\n?", shape(printed)) is None:
        assert shape(printed) == shape(shown)


def shape(output: str) -> str:
    """Output without what differs from one run to the next, and without the address of the test's server."""
    output = re.sub(
        r"^note: \w+: calls go to http://127\.0\.0\.1:\d+\S* \(\w+\)\n", "", output, flags=re.MULTILINE
    )
    output = re.sub(r"\b\w+_(BASE_URL|API_BASE)=http://127\.0\.0\.1:\d+\S* ", "", output)
    output = re.sub(r"\b[0-9a-f]{12}\b", "ID", output)
    output = re.sub(  # of prompts, whose wording and prices change
        r"^ *about [\d,]+ calls?.*; at most .*",
        lambda match: re.sub(r"[\d,]+(?= tokens)|(?<=\$)[\d.,]+\b", "N", match[0]),
        output,
        flags=re.MULTILINE,
    )
    output = re.sub(r"\S+:\d+(?= — an example of a finding)", "PLACE", output)
    output = re.sub(r"\S*/aethr-([a-z-]+)-\w+\.jsonl", r"/tmp/aethr-\1-ID.jsonl", output)
    return re.sub(r"\d+(\.\d+)? ?s\b", "TIME", output)


# --- the files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("block", of_kind("file"), ids=lambda block: block.id)
def test_a_file_is_one_of_its_kind(block: Block, tmp_path: Path) -> None:
    check_file(block.about, block.text, tmp_path)


@pytest.mark.parametrize("block", of_kind("part"), ids=lambda block: block.id)
def test_a_part_is_one_of_its_whole(block: Block, tmp_path: Path) -> None:
    name, whole = WHOLES[block.about](yaml.safe_load(block.text))
    check_file(name, yaml.safe_dump(whole, sort_keys=False), tmp_path)


def steps_of_a_workflow(steps: list[Yaml]) -> tuple[str, Yaml]:
    roles = {step["role"]: "Do it." for step in steps}
    return ".aethr.yaml", {"workflow": "part", "roles": roles, "steps": steps}


def hooks(found: list[Yaml]) -> tuple[str, Yaml]:
    repo = {"repo": "https://github.com/aethr/action", "rev": f"v{__version__}", "hooks": found}
    return ".pre-commit-config.yaml", {"repos": [repo]}


def steps_of_a_job(steps: list[Yaml]) -> tuple[str, Yaml]:
    job = {"runs-on": "ubuntu-latest", "steps": steps}
    return ".github/workflows/part.yml", {"on": "pull_request", "jobs": {"part": job}}


WHOLES = {"workflow steps": steps_of_a_workflow, "hooks": hooks, "job steps": steps_of_a_job}


def check_file(name: str, text: str, folder: Path) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    if name == ".pre-commit-config.yaml":
        check_hooks(path)
    elif "/workflows/" in name and name.startswith((".github", ".gitea")):
        check_github_workflow(path)
    elif name == ".gitlab-ci.yml":
        fits("vendor.gitlab-ci", path)
    elif name == ".env":
        make_repo(folder)
        assert credentials.load(folder).warnings == ()
    elif name == "expect.yaml":
        shipped = yaml.safe_load((ROOT / "cases" / "python-last-page" / name).read_text(encoding="utf-8"))
        shown = yaml.safe_load(text)
        (mine,), (finding,) = shown.pop("findings"), shipped.pop("findings")
        assert shown == shipped
        assert set(mine.pop("words")) < set(finding.pop("words"))
        assert {**mine, "why": ""} == {**finding, "why": ""}
    elif name == "replies.yaml":
        assert backends.read_replies(path, yaml.safe_load(text), ("implement",)).answers
    elif name == "reviewers.yaml":
        workflow = workflow_file.parse(read_preset(REVIEW_PRESET), "preset", planning.vocabulary())
        names = list(cases.find([], ROOT))
        assert scripted.read(path, workflow, names, list(yaml.safe_load(text)), 2).raw
    else:
        assert name.endswith(".aethr.yaml") or name.startswith("workflows/"), f"nothing checks {name}"
        workflow_file.load(path, planning.vocabulary())


def check_hooks(path: Path) -> None:
    """As pre-commit has it; and of our hooks the ids and the options are those there are."""
    passes(BIN / "pre-commit", "validate-config", path)
    offered = {hook["id"] for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())}
    flags = {option.flag for option in HOOK_OPTIONS}
    for repo in yaml.safe_load(path.read_text(encoding="utf-8"))["repos"]:
        for hook in repo["hooks"]:
            given = {word.partition("=")[0] for word in hook.get("args", ()) if word.startswith("--")}
            assert repo["repo"] == "local" or hook["id"] in offered
            assert given <= flags


def check_github_workflow(path: Path) -> None:
    """As GitHub's schema has it, where its checker is here; and our action gets inputs that it has."""
    fits("vendor.github-workflows", path)
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    for job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values():
        for step in job["steps"]:
            if step.get("uses", "").startswith("aethr/action@"):
                assert set(step.get("with", ())) <= set(action["inputs"])


def fits(schema: str, path: Path) -> None:
    """Where the checker is here, which has these schemas."""
    assert yaml.safe_load(path.read_text(encoding="utf-8"))
    if (checker := shutil.which("check-jsonschema", path=str(BIN))) is not None:
        passes(checker, "--builtin-schema", schema, path)


def passes(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# --- the text ------------------------------------------------------------------------------------


def test_the_reference_is_what_its_script_prints() -> None:
    script = ROOT / "docs" / "make_reference.py"
    printed = subprocess.run([sys.executable, script], capture_output=True, check=True).stdout
    assert (ROOT / "docs" / "workflow-reference.md").read_bytes() == printed


def test_the_tables_of_providers_are_what_their_script_writes() -> None:
    from docs import make_providers

    assert make_providers.PAGE.read_text(encoding="utf-8") == make_providers.page(), (
        "run `python -m docs.make_providers`"
    )


def test_links_lead_to_pages_and_headings() -> None:
    broken = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        pictures = re.findall(r'(?:src|srcset)="((?!https?:)[^"]+)"', text)
        for target in (*re.findall(r"\]\(((?!https?:)[^)]+)\)", text), *pictures):
            name, _, anchor = target.partition("#")
            path = (page.parent / name).resolve() if name else page
            if not path.exists() or (anchor and anchor not in anchors(path)):
                broken.append(f"{page.name}: {target}")
    assert broken == []


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub makes anchors of them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def names_of(provider: Provider) -> list[str]:
    """All that a user may write or set for a provider."""
    variables = (*provider.keys, *provider.base_variables, *provider.litellm_variables)
    return [provider.name, *provider.aliases, *variables]


TABLES = {
    "sources": ("context.md", SOURCES),
    "formats": ("reports.md", FORMATS),
    "codes": ("reports.md", [str(code.value) for code in ExitCode]),
    "options": ("running.md", [option.flag for option in OPTIONS]),
    "hook options": ("hook.md", [option.flag for option in HOOK_OPTIONS]),
    "providers": ("providers.md", [name for each in PROVIDERS.values() for name in names_of(each)]),
    "conditions": ("loops.md", CONDITIONS),
    "presets": ("workflow-file.md", PRESETS),
    "agents": ("agents.md", [name for name, row in BACKENDS.items() if row.edits_tree]),
    "pages": ("README.md", [page.name for page in PAGES if page.parent != ROOT and page.name != "README.md"]),
}


@pytest.mark.parametrize("table", TABLES)
def test_a_page_names_every_row_of_its_table(table: str) -> None:
    page, names = TABLES[table]
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert [name for name in names if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text)] == []


def test_the_page_on_providers_has_the_keys_and_endpoints_of_the_table() -> None:
    page = (ROOT / "docs" / "providers.md").read_text(encoding="utf-8")
    rows: dict[tuple[str, str], list[str]] = {}
    for each in PROVIDERS.values():
        if each.needs_key:
            cells = (any_of(each.keys, " or "), any_of(each.base_variables, " or "))
            rows.setdefault(cells, []).append(each.name)
    table = [f"| {any_of(names, ', ')} | {keys} | {bases} |" for (keys, bases), names in rows.items()]
    assert "\n".join(["| provider | key | another endpoint |", "| --- | --- | --- |", *table, ""]) in page


def any_of(names: Sequence[str], word: str) -> str:
    return word.join(f"`{name}`" for name in names)


def test_the_map_of_the_design_names_every_room() -> None:
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    rooms = {path.stem for path in (ROOT / "aethr").iterdir()} - {"data"}
    assert named == {name for name in rooms if not name.startswith("__")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_of_ours_that_a_page_names_is_there(page: Path) -> None:
    named = re.findall(
        r"`((?:aethr|tests|docs|presets|examples|\.ci)/[\w./-]*)", page.read_text(encoding="utf-8")
    )
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_page_on_the_record_names_every_field() -> None:
    step = StepResult(
        "s", "r", "opencode", None, 1, "", "", artifacts=Artifacts(), check=CommandCheck("c", True, "")
    )
    step = step._replace(context=(Receipt("git_diff", "a", 1),))
    found = Review("pass", (Finding("low", "a", 1, "m"),))
    loop = LoopResult("s", "s", 1, "satisfied")
    result = RunResult("t", "w", "live", Scope(), (step,), (loop,), found, Totals(), ExitCode.OK)
    text = (ROOT / "docs" / "reports.md").read_text(encoding="utf-8")
    assert sorted(name for name in names_in(record(result)) if f"`{name}`" not in text) == []


def names_in(value: Any) -> set[str]:
    """Every key of every mapping in a JSON value."""
    if isinstance(value, list):
        return {name for item in value for name in names_in(item)}
    return set(value) | names_in(list(value.values())) if isinstance(value, dict) else set()


def test_every_promise_about_security_names_tests_that_are_there() -> None:
    rows = [line for line in (ROOT / "SECURITY.md").read_text().splitlines() if line.startswith("| ")][2:]
    named = [re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row) for row in rows]
    assert all(named)
    missing = [
        name for found in named for path, name in found if f"\ndef {name}(" not in (ROOT / path).read_text()
    ]
    assert missing == []


def test_every_test_that_ci_names_is_there() -> None:
    """A script that selects by an old name would run what it must not, or skip what it must run."""
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    missing = []
    for script in (ROOT / ".ci").iterdir():
        text = script.read_text(encoding="utf-8")
        missing += [path for path in re.findall(r"tests/[\w/]+\.py", text) if not (ROOT / path).exists()]
        names = re.findall(r"\.py::(\w+)", text)
        for selected in re.findall(r"-k \"(.+?)\"", text):
            names += set(re.findall(r"\w+", selected)) - {"and", "or", "not"}
        missing += [name for name in names if name not in tests]
    assert missing == []


def test_everything_that_the_design_names_is_there() -> None:
    """Names such as ``git.survey``: a module by the end of its name, or a record of the run."""
    owners: dict[str, list[object]] = {"plan": [Plan], "result": [RunResult]}
    for path in sorted((ROOT / "aethr").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if name != "aethr.__main__":
            for end in (name.split(".", 1)[-1], name.rpartition(".")[2]):
                owners.setdefault(end, []).append(importlib.import_module(name))
    named = re.findall(
        r"`([a-z_]+(?:\.\w+)+)(?=[`(])", (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    )
    missing = []
    for owner, _, name in (dotted.rpartition(".") for dotted in named):
        if name not in ("toml", "lock", "py") and not any(
            hasattr(each, name) for each in owners.get(owner, ())
        ):
            missing.append(f"{owner}.{name}")
    assert missing == []
