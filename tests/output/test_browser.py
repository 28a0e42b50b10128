"""The report in a real browser: nothing in it runs or is loaded, and no rule of accessibility is broken.

Every test is skipped where there is no Chromium; the rules of axe are tried where ``AXE`` names its file.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest

from aethr.base.records import Finding, Review, RunResult, Shown
from aethr.output import html_page
from tests.loopback import Handler, Loopback
from tests.output.test_html_page import HOSTILE, hostile, with_prompt
from tests.output.test_report import RESULT

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
AXE = os.environ.get("AXE", "")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium (apt-get install chromium)"),
]
SCHEMES = {"light": "1", "dark": "0"}


class Site(Loopback):
    """Pages by their paths, and every path that was asked for."""

    def __init__(self) -> None:
        super().__init__(_Pages)
        self.pages: dict[str, str] = {}
        self.asked: list[str] = []


class _Pages(Handler):
    def do_GET(self) -> None:
        site: Site = self.server.owner
        site.asked.append(self.path)
        body = site.pages.get(self.path, "").encode()
        self.send_response(200 if body else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as running:
        yield running


def open_page(site: Site, folder: Path, page: str, *options: str) -> str:
    """The document as the browser has it when the page has been there for ten seconds of its own time."""
    assert CHROMIUM is not None
    site.pages["/page"] = page
    argv = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
    argv += ["--disable-background-networking", "--disable-component-update", "--window-size=1280,1000"]
    argv += [f"--user-data-dir={folder}/profile", "--virtual-time-budget=10000", "--dump-dom", *options]
    done = subprocess.run(
        [*argv, f"{site.origin}/page"], capture_output=True, text=True, timeout=120, check=True,
        env={**os.environ, "HOME": str(folder)},
    )  # fmt: skip
    return done.stdout


def attack(origin: str) -> str:
    """Markup that a browser runs or loads, each piece in its own way."""
    return f"""\
<img src="{origin}/img" onerror="document.title='run'"><svg onload="document.title='run'"></svg>
<style>@import "{origin}/import"; body {{ background: url({origin}/url) }}</style>
<p style="background: url({origin}/attribute)">x</p>
<link rel="stylesheet" href="{origin}/link"><iframe src="{origin}/frame"></iframe>
<object data="{origin}/object"></object><video src="{origin}/video"></video>
<script>document.title='run'; fetch("{origin}/fetch")</script><script src="{origin}/script"></script>
![x]({origin}/markdown)
"""


def title_of(page: str) -> str:
    found = re.search("<title>(.*?)</title>", page, re.DOTALL)
    return unescape(found[1]) if found else ""


def test_nothing_runs_and_nothing_is_loaded(site: Site, tmp_path: Path) -> None:
    unguarded = f"<!doctype html><title>still</title><body>{attack(site.origin)}"
    assert title_of(open_page(site, tmp_path, unguarded)) == "run"
    loaded = ("img", "import", "url", "attribute", "link", "frame", "object", "video", "fetch", "script")
    assert {f"/{name}" for name in loaded} <= set(site.asked), "the attack works where nothing stops it"

    for text in (attack(site.origin), "\n".join(HOSTILE)):
        site.asked.clear()
        page = html_page.render(hostile(text))
        assert title_of(open_page(site, tmp_path, page)) == title_of(page)
        assert site.asked == ["/page"]


def test_the_policy_stops_what_would_escape(site: Site, tmp_path: Path) -> None:
    page = html_page.render(RESULT).replace("<main>", f"<main>{attack(site.origin)}")
    assert title_of(open_page(site, tmp_path, page)) == title_of(page)
    assert site.asked == ["/page"]


def shapes() -> dict[str, RunResult]:
    found = Finding("high", "a.py", 3, "wrong", "change", evidence="x", suggestion="y", id="0123")
    return {
        "a review": with_prompt(review=Review("revise", (found, found._replace(path="b", place="nowhere")))),
        "from records": RESULT,
        "hostile": hostile(
            "\n".join((*HOSTILE, "word" * 2_000, "# A\n\n- b\n\n| a | b |\n| - | - |\n| 1 | 2 |"))
        ),
    }


def probe(page: str, script: str) -> str:
    """The page with all of it unfolded, and a script that the page itself would never allow."""
    page = re.sub("<meta http-equiv=[^>]*>", "", page)
    unfold = "document.querySelectorAll('details').forEach(each => each.open = true);"
    return page.replace("</body>", f"<script>{unfold}{script}</script></body>")


@pytest.mark.parametrize("name", shapes())
def test_a_phone_never_scrolls_sideways(site: Site, tmp_path: Path, name: str) -> None:
    site.pages["/inner"] = probe(html_page.render(shapes()[name]), "")
    measure = "const all = frame.contentDocument.all[0]; document.title = all.scrollWidth - all.clientWidth"
    outer = f'<iframe id="frame" src="/inner" width="390" height="900" onload="{measure}"></iframe>'
    assert title_of(open_page(site, tmp_path, f"<!doctype html><title>no</title>{outer}")) == "0"


def test_a_large_change_opens(site: Site, tmp_path: Path) -> None:
    line = "+" + "word " * 50 + "\n"
    shown = [Shown(f"f{at}.txt", (f"@@ -0,0 +1,1000 @@\n{line * 1_000}",)) for at in range(21)]
    page = html_page.render(with_prompt(*shown, text=line * 20_000))
    opened = open_page(site, tmp_path, probe(page, "document.title = document.querySelectorAll('tr').length"))
    assert int(title_of(opened)) > 15_000
    assert "more lines are not on this page" in opened


@pytest.mark.skipif(not AXE, reason="AXE does not name axe.min.js (npm install axe-core)")
@pytest.mark.parametrize("size", ["1280,1000", "500,900"])
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", shapes())
def test_no_rule_of_accessibility_is_broken(
    site: Site, tmp_path: Path, name: str, scheme: str, size: str
) -> None:
    report = """
        axe.run(document, {resultTypes: ["violations"]}).then(found => {
            const said = found.violations.map(each => [each.id, each.nodes.map(node => node.html)]);
            document.title = JSON.stringify([found.passes.length, said]);
        });"""
    axe = Path(AXE).read_text(encoding="utf-8").replace("</script", "<\\/script")
    options = (f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}", f"--window-size={size}")
    opened = open_page(site, tmp_path, probe(html_page.render(shapes()[name]), axe + report), *options)
    passed, broken = json.loads(title_of(opened))
    assert passed > 20, "the rules were tried"
    assert broken == []
