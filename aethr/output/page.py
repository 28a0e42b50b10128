"""Findings and answers as the comment and the ``.md`` report show them (pure)."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence

from aethr.base.records import SEVERITIES, Finding, RunResult, StepResult
from aethr.base.sanitize import one_line, terminal
from aethr.base.words import capped, counted
from aethr.output import grouping, wording
from aethr.output.markdown import Fitting, bullets, count_rest, fence, fold, markdown_inline


def findings_by_file(
    found: Sequence[Finding],
    link: Callable[[Finding], str | None] = lambda _: None,
    fitting: Fitting = tuple,
    code_fitting: Fitting = tuple,
) -> str:
    """The findings by file, the most severe first, with their code folded below each.

    ``link`` gives the URL of a finding's place, or None. Where there is no room for all, the least severe are
    only counted, and ``code_fitting`` decides whose code is shown.
    """
    reviewers = grouping.name_reviewers(found)
    ordered: list[Finding] = []
    texts: list[str] = []
    for group in grouping.by_file(found):
        lines = [_finding(each, link, reviewers) for each in group.findings]
        title = markdown_inline(group.name or "Without a file of the project", 300)
        lines[0] = f"**{title}**\n\n{lines[0]}"  # its worst one, so none is kept without it
        ordered += group.findings
        texts += lines
    ranked = sorted(range(len(texts)), key=lambda at: SEVERITIES.index(ordered[at].severity))
    kept = ranked[: len(fitting([texts[at] for at in ranked]))]
    details = {at: folded for at in kept if (folded := _details(ordered[at]))}
    shown = dict(zip(details, code_fitting(list(details.values())), strict=False))
    out = [part for at in sorted(kept) for part in (texts[at], shown.get(at, "")) if part]
    if hidden := len(details) - len(shown):
        out.append(f"The code of {counted(hidden, 'finding')} is not shown here.")
    return "\n\n".join(filter(None, (*out, count_rest(len(ranked), len(kept), "finding"))))


def _finding(found: Finding, link: Callable[[Finding], str | None], reviewers: Container[str]) -> str:
    """One line: sign, severity, place, message, who says so and who disputes it, state and id."""
    place, url = markdown_inline(wording.place_of(found)), link(found)
    place = f"[{place}]({url})" if url else place
    by = [markdown_inline(name, 60) for name in found.by if name in reviewers]
    marks = (
        f"by {capped(by)}" if by else "",
        grouping.STATES.get(found.state, ""),
        markdown_inline(found.id or "", 60),
    )
    said = (
        f"{grouping.SIGNS[found.severity]} **{found.severity}**" + (f" {place}:" if place else ":"),
        markdown_inline(found.message),
        markdown_inline(wording.dispute(found), 1100),
        f"*({' · '.join(filter(None, marks))})*" if any(marks) else "",
    )
    return " ".join(filter(None, said))


def _details(found: Finding) -> str:
    """What others wrote about the same defect, its code, and a suggestion as a diff; folded."""
    others = [f"{each.severity}, by {capped(each.by)}: {one_line(each.message)}" for each in found.also]
    lines = [line.removeprefix("| ") for line in wording.code_of(found)]
    has_code = bool(found.evidence or found.suggestion is not None)
    code = fence(lines, "" if found.suggestion is None else "diff") if has_code else ""
    names = ("code" if found.suggestion is None else "suggestion",) if code else ()
    title = " and ".join((*names, *(["other words"] if others else [])))
    body = "\n\n".join(filter(None, (bullets(others), code)))
    return fold(title.capitalize(), body) if body else ""


def set_aside(found: Sequence[Finding], fitting: Fitting = tuple) -> str:
    """The findings that do not count, folded by why: each with its reason, and the code that proves it."""
    folds = []
    for group in grouping.set_aside(found):
        items = []
        for each in group.findings:
            said = f"{markdown_inline(wording.finding(each))}<br>{markdown_inline(wording.why_closed(each))}"
            code = (
                fence(terminal(each.check.quote.text).split("\n"), "")
                if each.is_dropped and each.check
                else ""
            )
            items.append(f"{said}\n\n{code}\n")
        kept = fitting(items)
        body = "\n".join((*kept, count_rest(len(items), len(kept), "finding")))
        name = f"{group.name}: {wording.summary(group.findings)}"
        folds.append(fold(name[:1].upper() + name[1:], body))
    return "\n\n".join(folds)


def answer(step: StepResult, result: RunResult, show: Callable[[str], str], level: str = "####") -> str:
    """What an answer says beside its findings and its verdict; below it all of the answer, folded.

    ``show`` makes a text safe, as much of it as there is room for. An answer with nothing more is not folded.
    """
    content, name = terminal(step.content).strip("\n"), wording.title(step)
    beside = grouping.unsaid(content, result.review.findings, result.review.status)
    titled = f"{level} {markdown_inline(name, 80)}\n\n{show(beside)}" if beside else ""
    without_verdict = grouping.unsaid(content, (), result.review.status)
    folded = fold(f"The whole answer of {name}", show(content)) if without_verdict != beside else ""
    return "\n\n".join(filter(None, (titled.strip("\n"), folded)))
