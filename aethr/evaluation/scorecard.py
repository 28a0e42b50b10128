"""The report of an evaluation: the table ``FORMATS`` of pure functions from a ``Scorecard`` to text.

Names of cases and files, findings and errors are untrusted; each format makes them safe for itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import NamedTuple
from unicodedata import category, east_asian_width

from aethr.base import codec
from aethr.base.records import Finding, Mode
from aethr.base.sanitize import one_line
from aethr.base.words import capped, counted, fold, rest
from aethr.evaluation import baseline
from aethr.evaluation.baseline import Comparison, Shift, name_place
from aethr.evaluation.scoring import Detection, Score
from aethr.evaluation.summary import Proportion, Ruling, Summary, by_case, score_all, summarize
from aethr.evaluation.trials import Evaluation
from aethr.output import wording
from aethr.output.markdown import bullets, markdown_inline, table
from aethr.output.wording import Message

WIDTH = 80
_NAME = 30
"""So many columns of a case's name are in the table of a terminal."""
_SHORT, _LISTED = 3, 20
"""How many lists a terminal shows, and items of each; the other reports have all."""

_UNREAL: Mapping[Mode, str] = MappingProxyType(
    {
        "mock": "mock mode: no model was called, so these figures mean nothing; set AETHR_LIVE=1",
        "scripted": "the answers were played back: no model was called",
    }
)


class Scorecard(NamedTuple):
    """What a report is made of. ``earlier`` is the record that ``--baseline`` names."""

    evaluation: Evaluation
    earlier: Evaluation | None = None
    ruling: Ruling = Ruling()


class Format(NamedTuple):
    """A format: the function that writes a scorecard in it, and what it is for."""

    render: Callable[[Scorecard], str]
    summary: str


class _Row(NamedTuple):
    """A case in the table: ``found`` and ``placed`` of the defects in all its runs, ``extra`` findings."""

    name: str
    found: str
    placed: str
    extra: str
    remarks: str
    cost: str
    time: str


# --- the terminal ------------------------------------------------------------------------------


def lines(card: Scorecard) -> tuple[Message, ...]:
    """What a terminal shows, in lines of at most 80 columns if no name is wider than that.

    Against a baseline, what got better and worse comes first.
    """
    scores = score_all(card.evaluation)
    summary = summarize(card.evaluation)
    told = [Message(_title(card.evaluation))]
    if note := _UNREAL.get(card.evaluation.about.mode):
        told.append(Message(note, "note"))
    if card.earlier is not None:
        told += _tell_comparison(baseline.compare(card.evaluation, card.earlier), card.earlier)
    told += _tell_cases(_rows(scores))
    for title, find in islice(_LISTS.items(), _SHORT):
        if items := _list(find, scores):
            told += [Message(""), Message(f"{title}:")]
            told += [Message(f"  {item}") for item in items[:_LISTED]]
            if more := rest(len(items), _LISTED):
                told.append(Message(f"  {more}; --report FILE.md has all"))
    told.append(Message(""))
    told += [
        Message(f"{label:<26}{_show(share):<18}{_show_interval(share)}")
        for label, share in _measures(summary)
    ]
    told += [
        Message(line)
        for line in (_count(summary), *_troubles(summary), _spent(card.evaluation, summary))
        if line
    ]
    told += [Message(one_line(reason, 500), "bad") for reason in card.ruling.reasons]
    return tuple(part for line in told for part in _fit(line))


def _fit(line: Message) -> Iterator[Message]:
    """The line, in several ones if it is too long for a terminal."""
    width = WIDTH - len(line.labelled) + len(line.text)
    parts = fold(line.text, width, 4) if _columns(line.text) > width else [line.text]
    for number, part in enumerate(parts):
        yield Message(part.rstrip(), line.tone if number == 0 else "plain")


def text(card: Scorecard) -> str:
    """The same as plain text."""
    return "".join(f"{line.labelled}\n" for line in lines(card))


def _tell_comparison(found: Comparison, earlier: Evaluation) -> Iterator[Message]:
    yield Message(f"against the baseline of {one_line(earlier.about.date, 40)}:")
    yield from (Message(one_line(note, 500), "note") for note in found.notes)
    yield Message(f"better: {len(found.better):,}", "good")
    yield from (Message(f"  {_tell(each)}") for each in found.better)
    yield Message(f"worse: {len(found.worse):,}", "bad")
    yield from (Message(f"  {_tell(each)}") for each in found.worse)
    yield Message(f"the same: {found.same:,}")
    for (label, before), (_, now) in zip(_measures(found.before), _measures(found.now), strict=True):
        yield Message(f"{label:<26}{_show(before):<18}-> {_show(now)}")
    yield Message("")


def _tell_cases(rows: Sequence[_Row]) -> Iterator[Message]:
    head = _Row("case", "found", "at place", "extra", "", "", "")
    width = min(_NAME, max((_columns(row.name) for row in (head, *rows)), default=0))
    for row in (head, *rows) if rows else ():
        name = _cut(row.name, width)
        padded = name + " " * (width - _columns(name))
        figures = f"{padded}  {row.found:>7} {row.placed:>9} {row.extra:>6}  "
        yield Message(figures + _cut(row.remarks, WIDTH - _columns(figures)))


def _columns(line: str) -> int:
    """How many columns of a terminal a line takes."""
    return sum(
        0 if category(each) in ("Mn", "Me") else 2 if east_asian_width(each) in "WF" else 1 for each in line
    )


def _cut(line: str, width: int) -> str:
    """As much of a line as this many columns hold, with ``…`` if that is not all."""
    if _columns(line) <= width:
        return line
    while line and _columns(line) > width - 1:
        line = line[:-1]
    return line + "…"


# --- files -------------------------------------------------------------------------------------


def markdown(card: Scorecard) -> str:
    """A page for people; against a baseline, what got better and worse comes first."""
    scores = score_all(card.evaluation)
    summary = summarize(card.evaluation)
    measures = [(label, _show(share), _show_interval(share) or "-") for label, share in _measures(summary)]
    cases = [tuple(markdown_inline(cell) for cell in row) for row in _rows(scores)]
    tags = [(markdown_inline(each.tag), _show(each.recall), _show(each.clean)) for each in summary.tags]
    head = ("Case", "Found", "At place", "Extra", "", "Cost", "Time")
    sections = (
        f"# {markdown_inline(_title(card.evaluation))}",
        *(f"**{markdown_inline(reason)}**" for reason in card.ruling.reasons),
        markdown_inline(_UNREAL.get(card.evaluation.about.mode, "")),
        _compare_as_markdown(card.evaluation, card.earlier) if card.earlier is not None else "",
        "## Figures",
        table(("", "Proportion", "95 % interval"), measures),
        *map(markdown_inline, (_count(summary), *_troubles(summary), _spent(card.evaluation, summary))),
        "## Cases" if cases else "",
        table(head, cases),
        "## Tags" if tags else "",
        table(("Tag", "Recall", "Clean changes passed"), tags),
        *(
            f"## {title}\n\n{bullets(items)}"
            for title, find in _LISTS.items()
            if (items := _list(find, scores))
        ),
    )
    return "\n\n".join(section.strip("\n") for section in sections if section) + "\n"


def _compare_as_markdown(now: Evaluation, earlier: Evaluation) -> str:
    found = baseline.compare(now, earlier)
    shares = zip(_measures(found.before), _measures(found.now), strict=True)
    rows = [(label, _show(before), _show(today)) for (label, before), (_, today) in shares]
    sections = [f"## Against the baseline of {markdown_inline(earlier.about.date, 40)}", bullets(found.notes)]
    for title, differences in (("Better", found.better), ("Worse", found.worse)):
        sections.append(f"### {title}: {len(differences):,}")
        sections.append(bullets(map(_tell, differences)))
    sections += [f"The same: {found.same:,}", table(("", "Then", "Now"), rows)]
    return "\n\n".join(filter(None, sections))


def json_text(card: Scorecard) -> str:
    """The record, which ``--baseline`` reads, with scores and figures for other programs."""
    scores = score_all(card.evaluation)
    compared = baseline.compare(card.evaluation, card.earlier) if card.earlier is not None else None
    document = {
        **baseline.to_json(card.evaluation),
        "scores": [
            {
                "case": each.case.name,
                "number": each.trial.number,
                "right": each.is_right if each.is_clean else all(one.is_found for one in each.detections),
                "defects": [
                    {
                        "place": name_place(one.expected),
                        "severity": one.expected.severity,
                        "found": one.is_found,
                        "at_place": one.at_place,
                        "reported_as": one.by.severity if one.by else None,
                        "missed": one.missed,
                    }
                    for one in each.detections
                ],
                "findings": [
                    {"role": one.role, "defect": one.defect, "finding": wording.finding(one.finding)}
                    for one in each.rated
                ],
            }
            for each in scores
        ],
        "summary": _figures(summarize(card.evaluation)),
        "comparison": None
        if compared is None
        else {
            "better": codec.to_json(compared.better),
            "worse": codec.to_json(compared.worse),
            "same": compared.same,
            "before": _figures(compared.before),
            "now": _figures(compared.now),
            "notes": codec.to_json(compared.notes),
        },
        "exit_code": int(card.ruling.exit_code),
        "reasons": codec.to_json(card.ruling.reasons),
    }
    return codec.dumps(document)


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        ".json": Format(json_text, "the record, for --baseline and for programs"),
        ".md": Format(markdown, "a page for people"),
        ".txt": Format(text, "plain lines, as in the terminal"),
    }
)


def _figures(summary: Summary) -> dict[str, object]:
    """The figures as JSON values, each share with its value and interval."""
    values: dict[str, object] = {
        name: _share_as_json(value) if isinstance(value, Proportion) else value
        for name, value in zip(summary._fields, summary, strict=True)
    }
    values["by_severity"] = {severity: _share_as_json(share) for severity, share in summary.by_severity}
    values["tags"] = {
        each.tag: {"recall": _share_as_json(each.recall), "clean": _share_as_json(each.clean)}
        for each in summary.tags
    }
    values["totals"] = codec.to_json(summary.totals)
    return values


def _share_as_json(share: Proportion) -> dict[str, object]:
    return {**share._asdict(), "value": share.value, "interval": share.interval}


# --- in words ----------------------------------------------------------------------------------


def _title(evaluation: Evaluation) -> str:
    about = evaluation.about
    runs = f", {about.repeat:,} runs each" if about.repeat > 1 else ""
    models = f" ({capped([one_line(name, 80) for name in about.models], 3)})" if about.models else ""
    return (
        f"Aethr eval: {one_line(about.workflow, 60)}, {counted(len(evaluation.cases), 'case')}{runs}{models}"
    )


def _measures(summary: Summary) -> list[tuple[str, Proportion]]:
    """The shares that a report names; without cases of a severity, not that one."""
    severities = [(f"  {name}", share) for name, share in summary.by_severity if share.of]
    return [
        ("recall", summary.recall),
        *severities,
        ("at the right place", summary.placed),
        ("clean changes passed", summary.clean),
        ("false alarms", summary.alarms),
        ("same outcome in all runs", summary.same_outcome),
        ("same findings in all runs", summary.same_findings),
    ]


def _show(share: Proportion) -> str:
    """``83 % (30/36)``; 0 % and 100 % are exact. ``-`` of nothing."""
    if share.value is None:
        return "-"
    percent = round(100 * share.value)
    if 0 < share.part < share.of:
        percent = min(99, max(1, percent))
    return f"{percent} % ({share.part:,}/{share.of:,})"


def _show_interval(share: Proportion) -> str:
    """``61 to 94 %, n = 12``; empty of nothing."""
    if share.interval is None:
        return ""
    low, high = share.interval
    return f"{100 * low:.0f} to {100 * high:.0f} %, n = {share.n:,}"


def _count(summary: Summary) -> str:
    """What no share says: ``2 found as less severe, 3 duplicates``; empty if there is none."""
    parts = {
        f"{summary.lower:,} found as less severe": summary.lower,
        counted(summary.duplicates, "duplicate"): summary.duplicates,
        counted(summary.extras, "extra finding"): summary.extras,
        f"{summary.beside:,} about something else at the place": summary.beside,
        counted(summary.remarks, "remark") + " on clean changes": summary.remarks,
    }
    return ", ".join(part for part, number in parts.items() if number)


def _troubles(summary: Summary) -> Iterator[str]:
    """Which runs do not say all that they should, and what that does to the figures."""
    if summary.trials < summary.planned:
        yield f"only {summary.trials:,} of {counted(summary.planned, 'run')} ended"
    for number, what in ((summary.failed, "failed"), (summary.not_reviewed, "gave no verdict")):
        if number:
            yield f"{counted(number, 'run')} {what}: counted as finding nothing and passing nothing"
    if summary.incomplete:
        yield f"{counted(summary.incomplete, 'run')} incomplete: what they found is counted"


def _spent(evaluation: Evaluation, summary: Summary) -> str:
    totals, about = summary.totals, evaluation.about
    parts = (
        counted(summary.trials, "run"),
        counted(totals.calls, "call"),
        wording.tokens(totals.tokens, estimated=totals.estimated),
        wording.cost(totals.cost_usd, estimated=totals.estimated) if about.mode == "live" else "no cost",
        f"{wording.seconds(totals.seconds)} in runs",
        *([f"{wording.seconds(about.seconds)} in all"] if about.seconds else []),
    )
    return ", ".join(parts)


def _rows(scores: Sequence[Score]) -> list[_Row]:
    """A row for each case."""
    rows = []
    for name, own in by_case(scores).items():
        detections = [detection for each in own for detection in each.detections]
        states = Counter(state for each in own if (state := _state(each)))
        costs = [each.trial.totals.cost_usd for each in own]
        rows.append(
            _Row(
                one_line(name),
                f"{sum(each.is_found for each in detections)}/{len(detections)}" if detections else "clean",
                str(sum(each.at_place for each in detections)) if detections else "-",
                str(sum(len(each.having("extra")) for each in own)),
                ", ".join(
                    f"{state} {number:,}/{len(own):,}" if len(own) > 1 else state
                    for state, number in states.items()
                ),
                wording.cost(None if None in costs else sum(cost for cost in costs if cost is not None)),
                wording.seconds(sum(each.trial.totals.seconds for each in own)),
            )
        )
    return rows


def _state(score: Score) -> str:
    """What sets a run apart from one that did all right."""
    if score.trial.error is not None:
        return "failed"
    if not score.trial.counts:
        return "not reviewed"
    if score.is_alarm:
        return "false alarm"
    return "incomplete" if score.trial.outcome == "incomplete" else ""


def _missed(score: Score) -> list[str]:
    return [
        f"{_name(each)}: {one_line(each.missed, 300)}"
        for each in score.detections
        if each.by is None and score.trial.counts
    ]


def _alarms(score: Score) -> list[str]:
    found = [_describe(each) for each in score.having("extra") if score.is_alarm]
    return found or ["revise, without a finding"] * score.is_alarm


def _unheard(score: Score) -> list[str]:
    return [] if score.trial.counts else [one_line(score.trial.error or "not reviewed", 300)]


def _elsewhere(score: Score) -> list[str]:
    found = [each for each in score.detections if each.by and not each.at_place]
    return [f"{_name(each)}: at {_describe(each.by)}" for each in found if each.by]


def _closed(score: Score) -> list[str]:
    closed = score.having("set-aside") if score.trial.counts else ()
    return [f"{_describe(each)}; {one_line(wording.why_closed(each), 300)}" for each in closed]


_LISTS: Mapping[str, Callable[[Score], list[str]]] = MappingProxyType(
    {
        "Missed": _missed,
        "False alarms": _alarms,
        "Without a verdict": _unheard,
        "Found as less severe": lambda score: [
            f"{_name(each)}: as {each.by.severity}" for each in score.detections if each.by and each.is_lower
        ],
        "Found elsewhere in the file": _elsewhere,
        "Something else at the place": lambda score: list(map(_describe, score.having("beside"))),
        "Extra findings": lambda score: [] if score.is_clean else list(map(_describe, score.having("extra"))),
        "Duplicates": lambda score: list(map(_describe, score.having("duplicate"))),
        "Remarks on clean changes": lambda score: list(map(_describe, score.having("remark"))),
        "Dropped or answered": _closed,
    }
)
"""The lists below the table, each with what it says of a run. A terminal shows the first three."""


def _list(find: Callable[[Score], list[str]], scores: Sequence[Score]) -> list[str]:
    """A line for each thing that happened, with its cases and the number of their runs.

    Cases without a verdict for the same reason, such as a refused key, share a line.
    """
    cases: dict[tuple[str, str], list[str]] = {}
    for name, own in by_case(scores).items():
        told = Counter(line for each in own for line in dict.fromkeys(find(each)))
        for line, number in told.items():
            runs = f" ({number:,} of {len(own):,} runs)" if len(own) > 1 else ""
            own_line = "" if find is _unheard else name
            cases.setdefault((own_line, f"{line}{runs}"), []).append(one_line(name))
    return [f"{capped(names, _LISTED)}: {line}" for (_, line), names in cases.items()]


def _describe(finding: Finding) -> str:
    return one_line(wording.finding(finding), 300)


def _name(detection: Detection) -> str:
    """``app/pages.py:12-14: [high]``, as findings are written."""
    return f"{one_line(name_place(detection.expected), 200)}: [{detection.expected.severity}]"


def _tell(each: Shift) -> str:
    """``last-page: app/pages.py:12: found in 33 % (1/3), now in 100 % (3/3)``."""
    place = one_line(each.place, 200)
    return f"{one_line(each.case)}: {place}: {each.what} {_show(each.before)}, now {_show(each.now)}"
