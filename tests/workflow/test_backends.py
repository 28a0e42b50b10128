from __future__ import annotations

import subprocess
import sys

import pytest

from aethr.workflow.backends import BACKENDS


@pytest.mark.parametrize("name", BACKENDS)
def test_every_row_is_named_and_explained_and_builds_a_backend(name: str) -> None:
    row = BACKENDS[name]
    assert row.name == name
    assert row.help
    assert "\n" not in row.help
    row.build({}).preflight([])


def test_the_table_has_a_model_and_an_agent() -> None:
    assert not BACKENDS["model"].edits_tree
    assert BACKENDS["opencode"].edits_tree


def test_building_a_backend_imports_nothing_heavy() -> None:
    code = (
        "import sys; from aethr.workflow.backends import BACKENDS; BACKENDS['model'].build({});"
        "sys.exit(' '.join({'litellm', 'httpx', 'openai', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
