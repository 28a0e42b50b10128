"""The pictures in the documentation are what Aethr prints; long answers on a terminal, narrow to wide."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.model_server import ModelServer, Reply
from tests.screen import Screen, on_terminal
from tests.support import Repo

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="needs a pty")]


def picture_names() -> list[str]:
    return sorted(path.stem for path in (Path(__file__).parents[2] / "docs" / "pictures").glob("*.svg"))


@pytest.mark.parametrize("name", picture_names())
def test_a_picture_shows_the_current_output(name: str) -> None:
    from docs import pictures

    committed = (pictures.FOLDER / f"{name}.svg").read_text(encoding="utf-8")
    assert pictures.words(committed), "no text in the picture"
    assert pictures.words(pictures.svg(name)) == pictures.words(committed), "run `python -m docs.pictures`"
    assert not re.search(r"@font-face|url\([\"']?http", committed), "a picture fetches nothing"
    assert {*pictures.PICTURES, *pictures.COMMENTS} == set(picture_names())


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_long_answer_is_once_and_complete_in_the_scrollback(repo: Repo, columns: int) -> None:
    """Streamed on a screen of 12 rows: nothing of the live region is left, nothing of the answer lost."""
    repo.write("a.py", "x = 1\n")
    numbered = [f"- line {number:03} of the answer" for number in range(200)]
    pieces = tuple(line + "\n" for line in numbered)
    with ModelServer([Reply(chunks=(*pieces, "\nReview status: pass"), delay_s=0.005)]) as server:
        env = {"AETHR_LIVE": "1", "OPENAI_API_KEY": "sk-of-nobody", "OPENAI_BASE_URL": server.base_url}
        words = ["run", "--preset", "review-existing-diff", "--diff", "all", "review"]
        code, raw = on_terminal(words, repo.root, env, columns, 12)
    assert code == 0, raw
    assert len(re.findall(r"line \d{3} of", raw)) > 200, "it was not shown while it came"
    shown = Screen(columns, 12).feed(raw).lines
    text = "\n".join(shown)
    assert re.findall(r"line (\d{3}) of the answer", text) == [f"{number:03}" for number in range(200)]
    assert "step 1/1" not in text
    assert max(map(len, shown)) <= columns
