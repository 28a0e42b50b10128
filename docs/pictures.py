"""Makes the pictures of the documentation from what Aethr really prints: ``python -m docs.pictures``.

Each picture is a real process on a real terminal, against a server on loopback that plays the model. What
differs from one run to the next is taken out: seconds, the server's address, the random part of a file name.
The picture of the report in HTML is made by Chromium, and left as it is where there is none.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from tests.model_server import ModelServer, Reply, error
from tests.screen import Screen, on_terminal
from tests.support import Repo, make_repo

FOLDER = Path(__file__).parent / "pictures"
COLUMNS, ROWS = 92, 40

BEFORE = "def refund(payment, amount):\n    return payment.provider.refund(payment.id, amount)\n"
AFTER = """\
def refund(payment, amount=None):
    amount = amount or payment.amount
    payment.refunded += amount
    return payment.provider.refund(payment.id, amount)
"""
REVIEW = """\
- [high] shop/refund.py:2 — `amount or …` takes a refund of 0 for "everything": it pays out the whole amount.
- [medium] shop/refund.py:3 — `refunded` is raised before the provider has agreed: a failed call is booked.

No test calls `refund` without an amount.

Review status: revise
"""
PAGE_REVIEW = """\
- [high] shop/refund.py:2 — `amount or …` takes a refund of 0 for "everything": it pays out the whole amount.
  ```
      amount = amount or payment.amount
  ```
  ```suggestion
      amount = payment.amount if amount is None else amount
  ```
- [medium] shop/refund.py:3 — `refunded` is raised before the provider has agreed: a failed call is booked.

No test calls `refund` without an amount.

Review status: revise
"""
FOUND = """\
README.md says that `refund` needs an amount. Since this change it may be left out.
"""


@dataclass(frozen=True, slots=True)
class Picture:
    """A command as it is typed (after ``aethr``), and the answers of the model."""

    words: tuple[str, ...]
    typed: str
    answers: tuple[Reply | str, ...] = ()


PICTURES: Mapping[str, Picture] = {
    "run": Picture(
        ("run", "--preset", "review-existing-diff", "--fail-on", "high", "review my changes"),
        'AETHR_LIVE=1 aethr run --preset review-existing-diff --fail-on high "review my changes"',
        (Reply(chunks=(REVIEW,), usage=(612, 143)),),
    ),
    "failure": Picture(
        ("run", "--preset", "docs-sync", "bring the docs in line"),
        'AETHR_LIVE=1 aethr run --preset docs-sync "bring the docs in line"',
        (Reply(chunks=(FOUND,), usage=(905, 31)), error(401, "Incorrect API key provided.")),
    ),
    "check": Picture(("check",), "aethr check"),
}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name in PICTURES:
        (FOLDER / f"{name}.svg").write_text(svg(name), encoding="utf-8", newline="\n")

    if (chromium := shutil.which("chromium") or shutil.which("google-chrome")) is not None:
        picture_page(chromium, FOLDER / "page.png")


def picture_page(chromium: str, target: Path, *options: str, size: str = "1000,1180") -> None:
    """The report in HTML of a review, as this browser shows it with these ``options``."""
    with (
        tempfile.TemporaryDirectory() as folder,
        ModelServer([Reply(chunks=(PAGE_REVIEW,), usage=(612, 143))]) as server,
    ):
        page = Path(folder, "review.html")
        env = {"AETHR_LIVE": "1", "OPENAI_API_KEY": "sk-of-nobody", "OPENAI_BASE_URL": server.base_url}
        words = ("run", "--preset", "review-existing-diff", "--report", str(page), "review my changes")
        root = _project(Path(folder, "shop")).root
        command = [sys.executable, "-m", "aethr", *words]
        subprocess.run(command, cwd=root, env={**os.environ, **env}, check=True, capture_output=True)
        shown = re.sub(r"127\.0\.0\.1:\d+", "api.openai.com", page.read_text(encoding="utf-8"))
        page.write_text(re.sub(r"\b[\d.]+ s\b", "2.4 s", shown), encoding="utf-8")
        argv = [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *options]
        argv += [f"--user-data-dir={folder}/profile", f"--window-size={size}", f"--screenshot={target}"]
        subprocess.run([*argv, page.as_uri()], check=True, capture_output=True, timeout=120)


def svg(name: str) -> str:
    """The picture ``name``, made now. Aethr's own settings in the environment must be unset."""
    picture = PICTURES[name]
    with tempfile.TemporaryDirectory() as folder:
        shown = _shown(picture, _project(Path(folder, "shop")))
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ {picture.typed}", "bold"))
    console.print(Text.from_ansi(shown))
    # The fonts that Rich names would be fetched from elsewhere; a monospaced one is everywhere.
    plain = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    plain = plain.replace("<svg ", '<svg xml:space="preserve" ', 1)  # some viewers drop spaces at the start
    return console.export_svg(title="aethr", code_format=plain, unique_id=f"aethr-{name}")


def words(picture: str) -> list[str]:
    """The texts of a picture in their order, to compare two of them."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", picture)


def _shown(picture: Picture, repo: Repo) -> str:
    with ModelServer(picture.answers) as server:
        env = {"AETHR_LIVE": "1", "OPENAI_API_KEY": "sk-of-nobody", "OPENAI_BASE_URL": server.base_url}
        _, raw = on_terminal(picture.words, repo.root, env, COLUMNS, ROWS)
    return Screen(COLUMNS, ROWS).feed(_settled(raw)).ansi().rstrip()


def _settled(raw: str) -> str:
    """The output without what differs from run to run; the border of a panel keeps its length."""
    raw = re.sub(r"[^\n]*calls go to http://127[^\n]*\n", "", raw)
    raw = re.sub(r"OPENAI_BASE_URL=\S+ \S+ -m aethr", "aethr", raw)
    raw = re.sub(r"@\S+/(aethr-[\w-]+)-\w+\.json", r"@/tmp/\1-x1y2z3.json", raw)
    raw = re.sub(r"( [\d,]+ tokens · \S+)( · [\d.]+ s)", lambda found: "─" * len(found[2]) + found[1], raw)
    return re.sub(r", [\d.]+ s(?=\r?\n)", "", raw)


def _project(root: Path) -> Repo:
    repo = make_repo(root)
    for name, value in (("user.name", "A"), ("user.email", "a@example.invalid")):
        repo.git("config", name, value)
    repo.write("shop/refund.py", BEFORE)
    repo.write("README.md", "# Shop\n\n`refund(payment, amount)` pays an amount back.\n")
    repo.write(".aethr.yaml", _preset("plan-implement-review"))
    repo.commit()
    repo.write("shop/refund.py", AFTER)
    return repo


def _preset(name: str) -> str:
    return (Path(__file__).parent.parent / "presets" / f"{name}.yaml").read_text(encoding="utf-8")


if __name__ == "__main__":
    main()
