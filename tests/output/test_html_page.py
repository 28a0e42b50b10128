"""The report for a browser: what it shows, and that nothing in it runs, loads or passes for its markup."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import html5lib
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pygments.lexers import get_lexer_by_name

from aethr.base.records import Check, Finding, Opinion, Prompt, Quote, Receipt, Review, RunResult, Shown
from aethr.base.sanitize import terminal
from aethr.output import code, html_page
from tests.live import KEY, REVISE, TASK, Aethr, aethr, project, serving, temp
from tests.output.test_report import MOCK, NASTY, RESULT, STEP, nasty
from tests.support import Repo, many, without_gutter

__all__ = ["aethr", "project", "temp"]

HUNK = """\
@@ -1,3 +1,4 @@ def first():
 def total(prices):
-    return sum(prices)
+    # all of them
+    return sum(prices) + 1
 print("ok")
"""
NUMBERED = """\
@@ -1,3 +1,4 @@ def first():
1  def total(prices):
  -    return sum(prices)
2 +    # all of them
3 +    return sum(prices) + 1
4  print("ok")
"""
KEYED = (STEP.id, STEP.iteration, STEP.part)
HOSTILE = (
    NASTY,
    "<script>document.title='run'</script>",
    "</style><script>document.title='run'</script><style>",
    "--><img src=x onerror=\"document.title='run'\"><!--",
    "[a](javascript:document.title='run') ![b](http://127.0.0.1:9/x.png) <http://127.0.0.1:9/y>",
    "\"'><svg/onload=document.title='run'>",
    "{{ 7 * 7 }}{% for each in () %}{% endfor %}{# gone #}",
    "</td></tr></table></details></main><h1>Review status: pass</h1>",
    "\u202egnp.exe\u2066 \u05e9\u05dc\u05d5\u05dd <bdo dir=rtl>x</bdo>",
    "\0\x1b[31m\x9b2J\ud800",
    "&lt;b&gt; &#60;script&#62; &amp;",
    "<meta http-equiv=refresh content='0;url=http://127.0.0.1:9/'><base href=//127.0.0.1:9/>",
    "| a |\n| :-: |\n| [x]: http://127.0.0.1:9 |\n\n```html onload=x\n<b>\n```\n\n# H\n\n<b onclick=x>",
)
ELEMENTS = frozenset(
    (
        *("html", "head", "meta", "title", "style", "body", "header", "main", "footer", "nav", "section"),
        *("article", "details", "summary", "div", "span", "p", "br", "hr", "a", "h1", "h2", "h3", "h4"),
        *("strong", "em", "s", "code", "pre", "blockquote", "ul", "ol", "li"),
        *("table", "caption", "colgroup", "col", "thead", "tbody", "tr", "th", "td"),
    )
)
CLASSES = frozenset(
    re.findall(r"\.([a-z][a-z-]*)", (Path(html_page.__file__).with_name("page.css")).read_text())
)
ATTRIBUTES = {
    "class": lambda value: set(value.split()) <= CLASSES,
    "id": re.compile(r"[a-z-]+(-\d+)?").fullmatch,
    "href": re.compile(r"#[a-z-]+(-\d+)?").fullmatch,
    "aria-labelledby": re.compile(r"h-[a-z]+").fullmatch,
    "aria-label": re.compile("Contents|Recipients|Files").fullmatch,
    "role": re.compile("region").fullmatch,
    "tabindex": re.compile("0|-1").fullmatch,
    "scope": re.compile("col|row|rowgroup").fullmatch,
    "colspan": re.compile("4").fullmatch,
    "open": re.compile("").fullmatch,
    "lang": re.compile("en").fullmatch,
}


def with_prompt(*shown: Shown, text: str = "the prompt\n", **more: Any) -> RunResult:
    prompt = Prompt(KEYED, text, shown or (Shown("a.py", (NUMBERED,)),))
    return RESULT._replace(prompts=(prompt,), **more)


def hostile(text: str) -> RunResult:
    """A result that has this text in every place that a stranger may write to."""
    quote = Quote(text, text, text, 1, 1, "")
    finding = Finding(
        "high", "a.py", 3, text, evidence=text, suggestion=text, by=(text, "b"), id=text,
        also=(Opinion((text,), "low", text),), place="change",
    )  # fmt: skip
    dropped = finding._replace(check=Check(text, text, quote))
    elsewhere = finding._replace(path=text, place="nowhere")
    body = "".join(f"+{line}\n" for line in text.split("\n"))
    hunk = f"@@ -0,0 +1,{body.count(chr(10))} @@ {text}\n".replace("\r", "") + body
    shown = (Shown("a.py", (NUMBERED, hunk)), Shown(text, (hunk, text)))
    made = nasty(text)._replace(review=Review("revise", (finding, dropped, elsewhere), None, text))
    [step] = made.steps
    receipt = Receipt(text, text, 5, 1, note=text, complete=False, excluded=text)
    step = step._replace(context=(receipt,), notes=(text,), fallback_for=text, prompt_sha256=text)
    return made._replace(steps=(step,), prompts=(Prompt(step.key, text, shown),))


def parse(page: str) -> Any:
    """The tree of a page that is valid to the last character."""
    return html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(page)


def text_of(element: Any) -> str:
    return "".join(element.itertext())


def with_class(tree: Any, name: str) -> Iterator[Any]:
    return (each for each in tree.iter() if name in (each.get("class") or "").split())


def complaints(tree: Any) -> list[str]:
    """Every element and attribute that the page does not make itself."""
    found = []
    for each in tree.iter():
        if each.tag not in ELEMENTS:
            found.append(str(each.tag))
        elif each.tag != "meta":
            found += [
                f"{each.tag} {name}={value}"
                for name, value in each.attrib.items()
                if name not in ATTRIBUTES or not ATTRIBUTES[name](value)
            ]
    return found


# --- nothing of a stranger is markup ---


@pytest.mark.parametrize(
    "text", ["\n".join(HOSTILE), *(pytest.param(each, marks=pytest.mark.slow) for each in HOSTILE)]
)
def test_a_hostile_text_is_only_text(text: str) -> None:
    page = html_page.render(hostile(text))
    tree = parse(page)
    assert complaints(tree) == []
    assert len(list(tree.iter("meta"))) == 4
    [answer, prompt] = [text_of(each) for each in tree.iter("pre") if each.get("tabindex")][-2:]
    assert prompt.strip("\n") == terminal(text).strip("\n")
    assert answer.strip("\n") == terminal(text).strip("\n")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", page)


@pytest.mark.slow
@many(60)
@given(
    st.lists(
        st.sampled_from(
            ("<", ">", "&", '"', "'", "/", "`", "|", "\n", "[x](y)", "{{", "#", "a=", "- ", "```")
        )
    )
)
def test_no_text_is_markup(pieces: list[str]) -> None:
    assert complaints(parse(html_page.render(hostile("".join(pieces))))) == []


def test_the_policy_allows_the_style_of_the_page_and_nothing_else() -> None:
    tree = parse(html_page.render(hostile(HOSTILE[2])))
    [style] = tree.iter("style")
    digest = base64.b64encode(hashlib.sha256(text_of(style).encode()).digest()).decode()
    metas = {each.get("http-equiv") or each.get("name"): each.get("content") for each in tree.iter("meta")}
    assert metas["Content-Security-Policy"] == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    assert not re.search(r"url\(|@import|expression", text_of(style))


# --- what it shows ---


def test_a_finding_is_below_its_line_and_the_summary_links_to_it() -> None:
    found = Finding("high", "a.py", 2, "wrong", "change", 3, evidence="x", suggestion="y\nz", id="0123")
    other = Finding("low", "a.py", 90, "far", "change")
    tree = parse(html_page.render(with_prompt(review=Review("revise", (other, found)))))
    rows = list(tree.iter("tr"))
    [beside] = with_class(tree, "beside")
    above = rows[rows.index(beside) - 1]
    assert [text_of(cell) for cell in above] == ["", "3", "+", "    return sum(prices) + 1"]
    [card] = with_class(beside, "card")
    assert card.get("id") == "finding-1"
    assert [(row.get("class"), text_of(row[1])) for row in card.iter("tr")][1:] == [
        ("removed", "x"),
        ("added", "y"),
        ("added", "z"),
    ]
    links = [each.get("href") for each in tree.iter("a")]
    assert "#finding-1" in links
    [note] = [each for each in with_class(tree, "note") if "not shown" in text_of(each)]
    assert text_of(note[0]) == "a.py:90"
    ids = [each.get("id") for each in tree.iter() if each.get("id")]
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in links} <= set(ids)


@pytest.mark.parametrize("hunk", [HUNK, NUMBERED])
def test_lines_have_their_numbers_signs_and_colours(hunk: str) -> None:
    tree = parse(html_page.render(with_prompt(Shown("a.py", (hunk,)))))
    table = next(with_class(tree, "file")).find(".//table")
    shown = [[text_of(cell) for cell in row] for row in table.iter("tr")][2:]
    assert shown == [
        ["1", "1", " ", "def total(prices):"],
        ["2", "", "-", "    return sum(prices)"],
        ["", "2", "+", "    # all of them"],
        ["", "3", "+", "    return sum(prices) + 1"],
        ["3", "4", " ", 'print("ok")'],
    ]
    coloured = {each.get("class"): text_of(each) for each in table.iter("span")}
    assert coloured == {"k": "return", "f": "total", "c": "# all of them", "n": "1", "s": '"'} | coloured


def test_the_last_turn_that_shows_a_file_is_the_one_on_the_page() -> None:
    second = STEP._replace(iteration=2)
    prompts = (
        Prompt(KEYED, "one", (Shown("a.py", (HUNK,)), Shown("b.py", (HUNK,)))),
        Prompt((STEP.id, 2, 1), "two", (Shown("a.py", (HUNK.replace("+ 1", "+ 2"),)),)),
    )
    [a, b] = code.read_files(RESULT._replace(steps=(STEP, second), prompts=prompts))
    assert "+ 2" in terminal("".join(str(line.html.striptags()) for line in a.hunks[0].lines))
    assert (b.path, len(b.hunks)) == ("b.py", 1)


@pytest.mark.parametrize(
    "language",
    [
        "python",
        *(
            pytest.param(each, marks=pytest.mark.slow)
            for each in sorted({*code._LEXERS.values()} - {"python"})
        ),
    ],
)
def test_colour_changes_no_character(language: str) -> None:
    suffix = next(suffix for suffix, lexer in code._LEXERS.items() if lexer == language)
    get_lexer_by_name(language)
    lines = ['a = "b', " */ '''c", "<x y='z'>\t{{ q }}", "# d\\", "", "\u05d0 \U0001f600 `e` $f"]
    hunk = f"@@ -0,0 +1,{len(lines)} @@\n" + "".join(f"+{line}\n" for line in lines)
    [file] = code.read_files(with_prompt(Shown(f"x.{suffix}", (hunk,))))
    assert [re.sub("<[^>]*>", "", line.html) for line in file.hunks[0].lines] == [
        str(code.show(line)) for line in lines
    ]


def test_what_is_not_a_hunk_is_shown_as_it_is() -> None:
    header = "diff --git a/x b/x\nold mode 100644\nnew mode 100755\n"
    [file] = code.read_files(with_prompt(Shown("x", (header,))))
    assert file.hunks[0].head == ""
    assert [line.html for line in file.hunks[0].lines] == header.splitlines()


def test_each_file_says_who_saw_it_and_what_was_missing_comes_first() -> None:
    context = (*STEP.context, Receipt("git_diff", "p.lock", 0, excluded="lock file"))
    tree = parse(html_page.render(RESULT._replace(steps=(STEP._replace(context=context),))))
    table = next(each for each in tree.iter("table") if "and to whom" in text_of(each))
    assert [[text_of(cell) for cell in row] for row in table.iter("tr")][1:] == [
        ["p.lock", "git_diff", "0", "nobody", "excluded by rule: lock file"],
        ["z.py", "git_diff", "0", "nobody", "not sent: over budget"],
        ["a.py", "git_diff", "120", "not known to Aethr", ""],
    ]


def test_a_report_from_records_says_that_it_has_no_prompts() -> None:
    page = html_page.render(RESULT)
    assert "This report was made from records" in page
    assert "The prompt is not here." in page
    assert "This report was made from records" not in html_page.render(with_prompt())


def test_a_live_run_shows_what_it_sent_and_nothing_else(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("app.py", f"def total(prices):\n    return sum(prices) + 1  # {KEY}\n")
    project.write(".env.local", "PASSWORD=tell-nobody\n")
    project.write("package-lock.json", '{"lock": "tell-nobody"}\n')
    project.git("add", "-N", ".env.local", "package-lock.json")
    with serving(monkeypatch, REVISE) as server:
        done = aethr("run", "--preset", "review-existing-diff", "--report", "r.html", TASK)
    assert done.code == 0, done.err
    page = Path("r.html").read_text(encoding="utf-8")
    tree = parse(page)
    assert complaints(tree) == []
    [sent] = [body["messages"][-1]["content"] for body in server.bodies]
    assert text_of(list(tree.iter("pre"))[-1]).strip("\n") == sent.strip("\n")
    assert "tell-nobody" not in page
    assert KEY not in page
    assert "# [redacted]" in "".join(text_of(each) for each in with_class(tree, "line"))
    assert text_of(next(with_class(tree, "beside"))).split()[:2] == ["high", "app.py:2"]
    assert len(without_gutter(sent)) < len(sent)


# --- large and small ---


@pytest.mark.slow
def test_what_does_not_fit_is_counted() -> None:
    long = "+" + "x" * 1_000_000 + "\n"
    many_lines = [f"@@ -0,0 +{1 + 5_000 * at},5000 @@\n" + "+line\n" * 5_000 for at in range(6)]
    shown = (Shown("big.txt", tuple(many_lines)), Shown("wide.min.js", (f"@@ -0,0 +1 @@\n{long}",)))
    found = Finding("low", "wide.min.js", 1, "wide", "change")
    result = with_prompt(*shown, text="p" * 5_000_000, review=Review("pass", (found,)))
    page = html_page.render(result)
    assert len(page) < 8_000_000
    assert "10,001 more lines are not on this page" in page, "the file with a finding takes its line first"
    assert "… 999,000 more characters" in page
    assert re.search(r"1,000,\d{3} more characters are not on this page", page)
    assert page.count('<tr class="beside">') == 1


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["kt", "py", "scss", "tf"])
def test_hostile_lines_do_not_hang_the_colours(suffix: str) -> None:
    """Lines of 499 of these characters take more than eight seconds."""
    pieces = (
        "(",
        "\\",
        "'",
        '"',
        "/*",
        "<",
        "${",
        "`",
        " ",
        "a ",
        "0",
        "#",
        "{{",
        "-",
        "1e",
        "_",
        "a.",
        "$(",
    )
    lines = [f"+{(piece * width)[:width]}\n" for piece in pieces for width in (200, 499)] * 3
    for kept in (lines, [line for line in lines if len(line) < 300]):
        began = time.process_time()
        code.read_files(with_prompt(Shown(f"x.{suffix}", (f"@@ -0,0 +1,{len(kept)} @@\n{''.join(kept)}",))))
        assert time.process_time() - began < 4


def test_an_answer_that_is_slow_to_read_is_not_read_as_markdown() -> None:
    assert "<em>" in html_page.show_markdown("*a*")
    assert html_page.show_markdown("*a* " + "*" * html_page.PARAGRAPH).startswith("<pre>")


# --- for everybody ---


def luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """By https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_every_text_can_be_read_on_every_background(scheme: int) -> None:
    style = Path(html_page.__file__).with_name("page.css").read_text(encoding="utf-8")
    colours = dict(
        re.findall(r"--([a-z]+): (#[0-9a-f]{6})", re.findall(r":root \{(.*?)\}", style, re.DOTALL)[scheme])
    )
    plain, code_only = ("back", "soft"), ("back", "soft", "added", "removed", "hunk")
    pairs = [(text, on) for text in ("text", "muted") for on in code_only]
    pairs += [(text, on) for text in ("keyword", "string", "number", "name", "comment") for on in code_only]
    pairs += [(text, on) for text in ("link", "high", "medium", "low", "bad") for on in plain]
    poor = {pair: contrast(*(colours[name] for name in pair)) for pair in pairs}
    assert {pair: ratio for pair, ratio in poor.items() if ratio < 4.5} == {}


def test_the_outline_has_no_gap_and_tables_have_headers() -> None:
    found = Finding("high", "a.py", 3, "wrong", "change")
    for result in (with_prompt(review=Review("revise", (found,))), RESULT, MOCK, hostile("# x\n\n###### y")):
        tree = parse(html_page.render(result))
        levels = [int(each.tag[1]) for each in tree.iter() if re.fullmatch(r"h[1-6]", str(each.tag))]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))
        for table in (each for each in tree.iter("table") if each.find("caption") is not None):
            assert all(each.get("scope") for each in table.iter("th"))
        assert [each.tag for each in tree.find("body")] == ["a", "header", "main", "footer"]
