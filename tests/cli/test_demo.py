"""``aethr demo``: the example says that it is one, calls nothing, leaves nothing, and is right."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

import aethr as aethr_package
from aethr.base.errors import DiskError
from aethr.cli.demo import FIRST, LAST, main
from aethr.config import data_folder
from tests.model_server import ModelServer
from tests.screen import Screen, on_terminal
from tests.support import aethr, compile_below

FILES = data_folder("demo")
ANSWER: str = yaml.safe_load((FILES / "replies.yaml").read_text(encoding="utf-8"))["review"][0]
PATH = "shop/refund.py"
AFTER = (FILES / "after" / PATH).read_text(encoding="utf-8")
BEFORE = (FILES / "before" / PATH).read_text(encoding="utf-8")
Refund = Callable[..., None]


# --- what it prints ------------------------------------------------------------------------------


def test_the_first_and_the_last_line_say_that_it_is_an_example(tmp_path: Path) -> None:
    done = aethr("demo", cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert (lines[0], lines[-1]) == (FIRST, LAST)
    assert "NOT REVIEWED: scripted answers: no model was called (they say: revise)" in done.stdout
    assert "+    amount = amount or payment.amount\n" in done.stdout
    assert ANSWER.strip() in done.stdout
    assert "openai:" not in done.stdout.partition("Your own change")[0], "no model may seem to have answered"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pty")
@pytest.mark.parametrize("columns", [80, 100, 120])
@pytest.mark.parametrize("plain", [False, True])
def test_the_demo_on_a_terminal(tmp_path: Path, columns: int, plain: bool) -> None:
    code, raw = on_terminal(["demo"], tmp_path, {"NO_COLOR": "1"} if plain else {}, columns, 60)
    lines = Screen(columns, 60).feed(raw).lines
    assert (code, lines[0], [line for line in lines if line][-1]) == (0, FIRST, LAST)
    assert max(map(len, lines)) <= columns
    assert any("╭─ scripted · review" in line for line in lines)
    assert bool(re.search(r"\x1b\[[0-9;]*3[0-9]", raw)) is not plain
    assert re.search(r"\x1b\[(?:[0-9;]*;)?4[0-9]", raw) is None, "no background: the terminal may be light"


def test_nothing_of_the_place_or_the_environment_matters(repo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Live, in a broken project, from a hook of git: the same demo, and no call."""
    repo.write(".aethr.yaml", "broken: [\n")
    plain = aethr("demo", cwd=repo.root).stdout
    with ModelServer(lambda _: "Review status: pass") as server:
        environ = {
            "AETHR_LIVE": "1",
            "AETHR_MODEL": "openai:x",
            "AETHR_RUN_FAIL_ON": "high",
            "OPENAI_API_KEY": "sk-0123456789abcdef",
            "OPENAI_BASE_URL": server.base_url,
            "GIT_DIR": str(repo.root / ".git"),
            "GIT_INDEX_FILE": str(repo.root / ".git" / "index"),
        }
        done = aethr("demo", cwd=repo.root, env=environ)
    assert (done.returncode, done.stderr, server.requests) == (0, "", [])
    assert re.sub(r"[\d.]+ s\b", "", done.stdout) == re.sub(r"[\d.]+ s\b", "", plain)
    assert repo.git("status", "--porcelain") == "?? .aethr.yaml\n"


def test_the_demo_leaves_nothing_on_the_disk(tmp_path: Path) -> None:
    temporary, here = tmp_path / "temporary", tmp_path / "here"
    temporary.mkdir()
    here.mkdir()
    done = aethr("demo", cwd=here, env={"TMPDIR": str(temporary)})
    assert (done.returncode, [*temporary.iterdir(), *here.iterdir()]) == (0, [])


def test_pip_compiles_the_example_and_the_demo_shows_none_of_it(tmp_path: Path) -> None:
    """``pip install`` compiles each ``.py`` of a wheel; uv and a checkout do not."""
    package = Path(aethr_package.__file__).parent
    for name in ("aethr", "demo", "presets"):
        shutil.copytree(package.parent / name, tmp_path / name)
    assert compile_below(tmp_path / "demo") == 2
    done = subprocess.run(
        [sys.executable, "-m", "aethr", "demo"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "reviewing unstaged changes: 1 file, +4 -3" in done.stdout
    assert "__pycache__" not in done.stdout + done.stderr


class ClosedAtTheReview(io.StringIO):
    """An output whose reader leaves when the review begins, as ``head`` does."""

    def write(self, text: str) -> int:
        if "== scripted" in text:
            raise BrokenPipeError
        return super().write(text)


def test_a_closed_output_offers_no_checkpoint_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", ClosedAtTheReview())
    with pytest.raises(DiskError, match="standard output was closed") as caught:
        main()
    assert caught.value.resume == ""


# --- what the answer claims ----------------------------------------------------------------------


def load(text: str) -> Refund:
    names: dict[str, Any] = {}
    exec(compile(text, PATH, "exec"), names)
    refund: Refund = names["refund"]
    return refund


def payment(*, fails: bool = False) -> Any:
    """100 paid, nothing refunded; ``paid`` is what the provider has paid back."""
    paid: list[Decimal] = []

    def pay(_: str, amount: Decimal) -> None:
        if fails:
            raise ConnectionError
        paid.append(amount)

    provider = SimpleNamespace(refund=pay)
    return SimpleNamespace(id="p", amount=Decimal(100), refunded=Decimal(0), provider=provider, paid=paid)


def finding(number: int) -> str:
    return re.split(r"^- ", ANSWER, flags=re.MULTILINE)[number]


def line_of(code: str) -> int:
    (found,) = [number for number, line in enumerate(AFTER.splitlines(), 1) if line.strip() == code]
    return found


def test_a_refund_of_nothing_pays_everything_back() -> None:
    assert f"[high] {PATH}:{line_of('amount = amount or payment.amount')} " in finding(1)
    before, after = payment(), payment()
    load(BEFORE)(before, Decimal(0))
    load(AFTER)(after, Decimal(0))
    assert (before.paid, after.paid) == ([0], [100])


def test_the_default_is_not_all_that_is_left() -> None:
    assert f"[medium] {PATH}:{line_of('amount = amount or payment.amount')} " in finding(2)
    one = payment()
    load(AFTER)(one, Decimal(30))
    with pytest.raises(ValueError, match="more than is left"):
        load(AFTER)(one)


def test_a_refund_that_failed_counts_as_paid() -> None:
    assert f"[medium] {PATH}:{line_of('payment.refunded += amount')} " in finding(3)
    before, after = payment(fails=True), payment(fails=True)
    for version, one in ((BEFORE, before), (AFTER, after)):
        with pytest.raises(ConnectionError):
            load(version)(one, Decimal(100))
    assert (before.refunded, after.refunded) == (0, 100)
    with pytest.raises(ValueError, match="more than is left"):
        load(AFTER)(after, Decimal(100))


def test_the_suggestion_fixes_what_it_stands_under() -> None:
    (suggested,) = re.findall(r"^  ```suggestion\n(.*?)^  ```$", ANSWER, re.MULTILINE | re.DOTALL)
    lines = "".join(line[2:] for line in suggested.splitlines(keepends=True))
    fixed = load(AFTER.replace("    amount = amount or payment.amount\n", lines))
    one = payment()
    fixed(one, Decimal(0))
    fixed(one, Decimal(30))
    fixed(one)
    assert one.paid == [0, 30, 70]
