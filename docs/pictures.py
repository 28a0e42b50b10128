"""Makes the pictures of the documentation from what Aethr really prints: ``python -m docs.pictures``.

Each picture of a terminal is a real process on a real terminal, against a server on loopback that plays the
model. What differs from one run to the next is taken out: seconds, the server's address, the random part of a
file name. The comment is what the Action posts after such a run, as GitHub's own parser renders it.
The picture of the report in HTML is made by Chromium, and left as it is where there is none.

``python -m docs.pictures FOLDER`` makes the same run for 80, 100 and 120 columns, light and dark, without
colours, on a pipe and in CI, to look at before a release.
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
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import cmarkgfm
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME, TerminalTheme
from rich.text import Text

from aethr.base.options import RunOptions
from aethr.github import comment
from aethr.run import execute, prepare
from tests.model_server import ModelServer, Reply, error
from tests.screen import Screen, on_terminal
from tests.support import Repo, aethr, make_repo

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

      amount = amount or payment.amount

  ```suggestion
      if amount is None:
          amount = payment.amount
  ```
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
    columns: int = COLUMNS
    light: bool = False
    environ: tuple[tuple[str, str], ...] = ()


_ANSI = (36, 41, 47), (207, 34, 46), (17, 99, 41), (125, 78, 0), (9, 105, 218), (130, 80, 223), (27, 124, 131)
LIGHT = TerminalTheme((255, 255, 255), (31, 35, 40), [*_ANSI, (110, 119, 129)], [*_ANSI, (110, 119, 129)])
"""A terminal with a light background, in the colours of GitHub's light theme."""
_SVG = [tuple(SVG_EXPORT_THEME.ansi_colors[number]) for number in range(9)]
DARK = TerminalTheme(
    tuple(SVG_EXPORT_THEME.background_color),
    tuple(SVG_EXPORT_THEME.foreground_color),
    _SVG[:8],
    [_SVG[8], *_SVG[1:8]],
)
"""Rich's own dark one, whose bright green is too dark to read."""

RUN = Picture(
    ("run", "--preset", "review-existing-diff", "--fail-on", "high", "review my changes"),
    'aethr run --preset review-existing-diff --fail-on high "review my changes"',
    (Reply(chunks=(REVIEW,), usage=(612, 143)),),
)
PICTURES: Mapping[str, Picture] = {
    "run": RUN,
    "run-light": replace(RUN, light=True),
    "failure": Picture(
        ("run", "--preset", "docs-sync", "bring the docs in line"),
        'aethr run --preset docs-sync "bring the docs in line"',
        (Reply(chunks=(FOUND,), usage=(905, 31)), error(401, "Incorrect API key provided.")),
    ),
    "check": Picture(("check",), "aethr check"),
}


COMMENTS = {"comment": False, "comment-light": True}
"""The pictures of the comment, and which of them is light."""


def main() -> None:
    if sys.argv[1:]:
        _write_variants(Path(sys.argv[1]))
        return
    FOLDER.mkdir(exist_ok=True)
    for name in (*PICTURES, *COMMENTS):
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
    if name in COMMENTS:
        return _draw_comment(light=COMMENTS[name])
    return _draw(PICTURES[name], name)


def _write_variants(folder: Path) -> None:
    """Every terminal that a reader may have, and a text file for what has none."""
    folder.mkdir(parents=True, exist_ok=True)
    for columns in (80, 100, 120):
        for kind, change in (
            ("dark", {}),
            ("light", {"light": True}),
            ("no-color", {"environ": (("NO_COLOR", "1"),)}),
        ):
            name = f"{columns}-{kind}"
            made = replace(RUN, columns=columns, **change)
            (folder / f"{name}.svg").write_text(_draw(made, name), encoding="utf-8")
    for name, environ in (("pipe", {}), ("ci", {"CI": "true", "GITHUB_ACTIONS": "true"})):
        with tempfile.TemporaryDirectory() as work, ModelServer(RUN.answers) as server:
            env = {**_environ(server), **environ}
            done = aethr(*RUN.words, cwd=_project(Path(work, "shop")).root, env=env)
            (folder / f"{name}.txt").write_text(done.stdout + done.stderr, encoding="utf-8")


def _draw(picture: Picture, name: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        shown = _shown(picture, _project(Path(folder, "shop")))
    console = Console(record=True, width=picture.columns, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ {picture.typed}", "bold"))
    console.print(Text.from_ansi(shown))
    # The fonts that Rich names would be fetched from elsewhere; a monospaced one is everywhere.
    plain = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    plain = plain.replace("<svg ", '<svg xml:space="preserve" ', 1)  # some viewers drop spaces at the start
    theme = LIGHT if picture.light else DARK
    return console.export_svg(title="aethr", code_format=plain, unique_id=f"aethr-{name}", theme=theme)


_COMMENT = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 880 {height}" width="880" height="{height}">
<foreignObject width="880" height="{height}"><div xmlns="http://www.w3.org/1999/xhtml">
<style>
.page {{ font: 14px/1.5 -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif; }}
.page {{ color: {text}; background: {page}; border: 1px solid {line}; border-radius: 6px; }}
.head {{ background: {head}; border-bottom: 1px solid {line}; padding: 8px 16px; }}
.body {{ padding: 4px 16px; }} .muted, sub {{ color: {muted}; font-size: 12px; }} a {{ color: {link}; }}
.page a {{ text-decoration: none; }}
h2, h3, h4 {{ margin: 16px 0 8px; font-weight: 600; font-size: 18px; }} h4 {{ font-size: 14px; }}
code, pre {{ font: 12px/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }}
code {{ background: {code}; border-radius: 6px; padding: 2px 5px; }}
pre code {{ padding: 0; background: none; }}
pre {{ background: {code}; border-radius: 6px; padding: 12px; margin: 8px 0; }} p {{ margin: 8px 0; }}
ul {{ padding-left: 28px; margin: 8px 0; }} table {{ border-collapse: collapse; }}
.added {{ background: {added}; }} .removed {{ background: {removed}; }}
details {{ margin: 8px 0; }} summary {{ color: {text}; }}
td, th {{ border: 1px solid {line}; padding: 4px 10px; }}
</style>
<div class="page"><div class="head"><b>github-actions</b> <span class="muted">bot commented</span></div>
<div class="body">
{body}
</div></div></div></foreignObject></svg>
"""
COMMENT_HEIGHT = 514
"""Enough for the comment: an SVG does not grow with its text."""
_LIGHT = {
    "page": "#ffffff",
    "head": "#f6f8fa",
    "line": "#d0d7de",
    "text": "#1f2328",
    "muted": "#59636e",
    "link": "#0969da",
    "code": "#f0f1f3",
    "added": "#d2f4d9",
    "removed": "#ffdcd8",
}
_DARK = {
    "page": "#0d1117",
    "head": "#151b23",
    "line": "#3d444d",
    "text": "#f0f6fc",
    "muted": "#9198a1",
    "link": "#4493f8",
    "code": "#232830",
    "added": "#1d4428",
    "removed": "#5d2526",
}
"""The colours of GitHub's two themes."""


def _draw_comment(*, light: bool) -> str:
    """The comment of the same run, as GitHub shows it: an image that holds the page itself."""
    # What may be dangerous in the Markdown was made harmless before: all HTML that is left is Aethr's own.
    unsafe = cmarkgfm.Options.CMARK_OPT_UNSAFE
    html = cmarkgfm.github_flavored_markdown_to_html(_write_comment(), options=unsafe)
    html = re.sub(r"127\.0\.0\.1:\d+", "api.openai.com", html)
    body = html.replace("<br>", "<br/>").replace(
        "<details>", '<details open="">', 1
    )  # the suggestion, as a reader unfolds it
    body = re.sub(r"^((?:<pre.*?>)?(?:<code>)?)([+-].*)", _paint, body, flags=re.MULTILINE)
    return _COMMENT.format(body=body.strip(), height=COMMENT_HEIGHT, **(_LIGHT if light else _DARK))


def _paint(line: re.Match[str]) -> str:
    return f'{line[1]}<span class="{"added" if line[2].startswith("+") else "removed"}">{line[2]}</span>'


def _write_comment() -> str:
    """The Markdown that the Action posts."""
    with tempfile.TemporaryDirectory() as folder, ModelServer(RUN.answers) as server:
        repo = _project(Path(folder, "shop"))
        repo.commit("Refund all by default")
        options = RunOptions(
            task="review",
            preset="review-existing-diff",
            diff="HEAD~1...HEAD",
            fail_on="high",
            checkpoint_dir=folder,
        )
        prepared = prepare(options, repo.root, {**os.environ, **_environ(server)})
        result = execute(prepared, nullcontext(lambda _: None)).result
    blobs = comment.Blobs("https://github.com", "octo/shop", "8f2c1d4a9b3e" + "0" * 28)
    page = comment.Page(blobs, "https://github.com/octo/shop/actions/runs/1", result.exit_code, result)
    return re.sub(r", [\d.]+ s\b|(?<=\| )[\d.]+ s (?=\|)", "", comment.summary(page))


def words(picture: str) -> list[str]:
    """The texts of a picture in their order, to compare two of them."""
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", picture)
    return texts or re.findall(r">\s*([^<>{}]+?)\s*<", picture.partition('class="body"')[2])


def _shown(picture: Picture, repo: Repo) -> str:
    with ModelServer(picture.answers) as server:
        env = {**_environ(server), **dict(picture.environ)}
        _, raw = on_terminal(picture.words, repo.root, env, picture.columns, ROWS)
    return Screen(picture.columns, ROWS).feed(_settled(raw)).ansi().rstrip()


def _environ(server: ModelServer) -> dict[str, str]:
    return {"AETHR_LIVE": "1", "OPENAI_API_KEY": "sk-of-nobody", "OPENAI_BASE_URL": server.base_url}


def _settled(raw: str) -> str:
    """The output without what differs from run to run; the border of a panel keeps its length."""
    raw = re.sub(r"[^\n]*calls go to http://127[^\n]*\n", "", raw)
    raw = re.sub(r"calls 127\.0\.0\.1:\d+ \(OPENAI_BASE_URL\)", "calls api.openai.com", raw)
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
