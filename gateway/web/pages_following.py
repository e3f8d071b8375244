"""After the job: cases for after-sales, complaints for the workshop, and the funnel with its measures."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace as Shown
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from aiohttp import web

from gateway.domain.access import Role
from gateway.domain.case import Case, CaseKind, CaseState
from gateway.domain.errors import ConflictError, InvalidError
from gateway.domain.feedback import SCALES
from gateway.domain.measures import STEPS
from gateway.domain.moments import DAY_MS
from gateway.flow import cases, measure
from gateway.ports import Records
from gateway.web import charts, rights, views
from gateway.web.access import allow, who
from gateway.web.context import CONTEXT, Context
from gateway.web.render import page, see, words_for
from gateway.web.scores import Score, scores
from gateway.web.words import Words

T = TypeVar("T")
routes = web.RouteTableDef()

LIST_MOST = 200
SPANS = (30, 90, 365)
"""Days that the funnel offers to look back."""
SHOWN_STEPS = STEPS[:-1]
"""Steps with a column of their own; whether it helped stands with what was done."""


class _Page:
    """One request."""

    def __init__(self, request: web.Request, words: Words) -> None:
        self.request = request
        self.context: Context = request.app[CONTEXT]
        self.words = words
        self.now = self.context.clock.now()
        self.who = who(request)

    async def read(self, work: Callable[[Records], T]) -> T:
        return await self.context.database.read(work)

    async def write(self, work: Callable[[Records], T]) -> T:
        return await self.context.database.write(work)

    def answer(self, template: str, tab: str, view: Shown) -> web.Response:
        said = f"following.said_{self.request.query.get('said', '')}"
        toast = Shown(text=self.words(said), undo_url=None) if self.words.has(said) else None
        return page(self.request, template, self.words, tab=tab, view=view, toast=toast)


async def _open(request: web.Request) -> _Page:
    return _Page(request, await words_for(request))


# --- cases ------------------------------------------------------------------------------------


@routes.get("/operator/cases")
@allow(Role.OPERATOR)
async def list_cases(request: web.Request) -> web.Response:
    """Whose customer waits, the overdue ones first; then what goes on, then what was closed lately."""
    at = await _open(request)

    def work(records: Records) -> tuple[list[Case], list[Case]]:
        closed = records.cases.page(states=(CaseState.CLOSED,), limit=20)
        return records.cases.pending(LIST_MOST), closed

    pending, closed = await at.read(work)
    for case in (*pending, *closed):
        at.who.saw(case.owner, "matters", "overview")
    late = sum(case.overdue(at.now) for case in pending)
    head = "head_late" if late else "head_open" if pending else "head_calm"
    view = Shown(
        headline=at.words(f"following.{head}", count=late or len(pending)),
        lead=at.words("following.cases_lead"),
        rows=[_row(case, at) for case in pending],
        closed=[_row(case, at) for case in closed],
    )
    return at.answer("operator_cases.html", "cases", view)


def _row(case: Case, at: _Page) -> Shown:
    words = at.words
    return Shown(
        href=f"/operator/cases/{quote(case.id)}",
        kind=words(f"following.kind.{case.kind}"),
        about=_about(case, words),
        responsible=case.responsible,
        state=words(f"following.state.{case.state}"),
        overdue=case.overdue(at.now),
        due=_when(case.due_at, words),
        opened=words.moment(case.opened_at, at.now),
    )


def _when(ms: int, words: Words) -> str:
    return f"{words.when(ms, 'wd')} {words.when(ms, 'short')}, {words.when(ms, 'time')}"


def _about(case: Case, words: Words) -> str:
    """What it is about in a few words, without saying whose it is."""
    match case.kind:
        case CaseKind.COMPLAINT:
            return views.rule_name(str(case.data.get("again", {}).get("rule", "")), words)
        case CaseKind.LOW_SCORE:
            question = str(case.data.get("question", ""))
            most = SCALES.get(question, (0, 0))[1]
            return words("following.scored", question=question.upper(), n=case.data.get("score"), most=most)
        case _:
            return case.text[:80]


@routes.get("/operator/cases/{id}")
@allow(Role.OPERATOR)
async def show_case(request: web.Request) -> web.Response:
    """A case with everything that its responsible needs, and what can be done."""
    at = await _open(request)
    wanted = request.match_info["id"]
    view = await at.read(lambda records: _case_view(records, rights.case(records, at.who, wanted), at))
    return at.answer("operator_case.html", "cases", view)


def _case_view(records: Records, case: Case, at: _Page) -> Shown:
    words = at.words
    owner = records.owners.get(case.owner)
    return Shown(
        id=case.id,
        url=f"/operator/cases/{quote(case.id)}",
        kind=words(f"following.kind.{case.kind}"),
        about=_about(case, words),
        state=words(f"following.state.{case.state}"),
        overdue=case.overdue(at.now),
        closed=case.state is CaseState.CLOSED,
        due=_when(case.due_at, words),
        responsible=case.responsible,
        owner=owner.name,
        owner_url=f"/operator/owners/{quote(owner.id)}",
        reach=[part for part in (owner.phone, owner.email) if part],
        text=case.text,
        facts=list(_facts(records, case, words)),
        history=[_entry(entry, at) for entry in reversed(case.history)],
    )


def _facts(records: Records, case: Case, words: Words) -> Iterator[tuple[str, list[str]]]:
    """Pairs of name and lines."""
    device = records.devices.find(case.device) if case.device else None
    if device is not None:
        yield words("following.product"), [p for p in (device.title, device.plate) if p]
    shop = views.find_workshop(records, case.workshop or case.data.get("workshop") or "")
    if shop is not None:
        yield words("following.workshop"), [p for p in (shop.name, shop.phone) if p]
    job, again = case.data.get("job"), case.data.get("again")
    if isinstance(job, Mapping):
        yield words("following.job"), list(_job(job, words))
    if isinstance(again, Mapping):
        found = words("following.found_on", when=_when(int(again["found_at"]), words))
        yield words("following.again"), [views.rule_name(str(again["rule"]), words), found, *_measured(again)]


def _job(job: Mapping[str, Any], words: Words) -> Iterator[str]:
    work = job.get("work") or {}
    yield views.rule_name(str(job.get("rule", "")), words)
    yield words("following.done_on", when=_when(int(job["done_at"]), words))
    if work.get("note"):
        yield str(work["note"])
    if work.get("parts"):
        yield ", ".join(str(part) for part in work["parts"])
    yield from _measured(job)


def _measured(found: Mapping[str, Any]) -> Iterator[str]:
    evidence = found.get("evidence") or {}
    yield from (f"{name} {value}" for name, value in evidence.items() if name != "ts")


def _entry(entry: Any, at: _Page) -> Shown:
    return Shown(
        when=at.words.moment(entry.at, at.now),
        what=at.words(f"following.did.{entry.what}"),
        by=at.words("following.by_system") if entry.by == cases.SYSTEM else entry.by,
        text=entry.text,
    )


@routes.post("/operator/cases/{id}/note")
@routes.post("/operator/cases/{id}/answer")
@routes.post("/operator/cases/{id}/close")
@routes.post("/operator/cases/{id}/give")
@allow(Role.OPERATOR)
async def act(request: web.Request) -> web.Response:
    """Note, get back to the customer, close with what they hear, give to somebody else."""
    at, form = await _open(request), await request.post()
    wanted, what, text = request.match_info["id"], request.path.rpartition("/")[2], str(form.get("text", ""))
    by, now, policy = at.who.name, at.now, at.context.policy

    def work(records: Records) -> None:
        rights.case(records, at.who, wanted)
        match what:
            case "note":
                cases.note(records, wanted, text, by=by, now=now)
            case "give":
                cases.give(records, wanted, text, by=by, now=now)
            case "answer":
                cases.answer_case(records, wanted, text, by=by, now=now, policy=policy)
            case _:
                cases.close_case(records, wanted, text, by=by, now=now, policy=policy)

    back = f"/operator/cases/{quote(wanted)}"
    try:
        await at.write(work)
    except InvalidError:
        return see(back, "empty")
    except ConflictError:
        return see(back, "conflict")
    return see(back, what)


# --- the workshop -----------------------------------------------------------------------------


@routes.get("/workshop/complaints")
@allow(Role.WORKSHOP)
async def complaints(request: web.Request) -> web.Response:
    """What came back after one of its jobs, with both: what was done, and what was found again."""
    at = await _open(request)

    def work(records: Records) -> tuple[str, list[Shown]]:
        shop = records.workshops.get(at.who.subject or "")
        found = records.cases.pending(LIST_MOST, workshop=shop.id, kind=CaseKind.COMPLAINT)
        return shop.name, [_complaint(records, case, at) for case in found]

    shop, rows = await at.read(work)
    return at.answer("workshop_complaints.html", "complaints", Shown(shop=shop, rows=rows))


def _complaint(records: Records, case: Case, at: _Page) -> Shown:
    case = rights.case(records, at.who, case.id)
    return Shown(
        url=f"/workshop/complaints/{quote(case.id)}/note",
        about=_about(case, at.words),
        due=_when(case.due_at, at.words),
        overdue=case.overdue(at.now),
        facts=[pair for pair in _facts(records, case, at.words) if pair[0] != at.words("following.workshop")],
        history=[_entry(entry, at) for entry in reversed(case.history) if entry.what != "given"],
        booking=f"/workshop?booking={quote(case.appointment)}" if case.appointment else "",
    )


@routes.post("/workshop/complaints/{id}/note")
@allow(Role.WORKSHOP)
async def note_complaint(request: web.Request) -> web.Response:
    """What the workshop says to it, for after-sales."""
    at, form = await _open(request), await request.post()
    wanted, text = request.match_info["id"], str(form.get("text", ""))

    def work(records: Records) -> None:
        rights.case(records, at.who, wanted)
        cases.note(records, wanted, text, by=f"workshop:{at.who.subject}", now=at.now)

    try:
        await at.write(work)
    except InvalidError:
        return see("/workshop/complaints", "empty")
    return see("/workshop/complaints", "note")


# --- the funnel -------------------------------------------------------------------------------


@routes.get("/operator/funnel")
@allow(Role.OPERATOR)
async def funnel(request: web.Request) -> web.Response:
    """What became of findings, how long it took, and how well promises were kept."""
    at = await _open(request)
    by, days = _wanted(request)
    since, until, policy = at.now - days * DAY_MS, at.now + 1, at.context.policy

    def work(records: Records) -> tuple[list[measure.FunnelLine], measure.Measures, list[Score]]:
        return (
            measure.funnel(records, by, since, until, at.now, policy),
            measure.measures(records, since, until, at.now, policy),
            scores(records, since, until),
        )

    lines, measured, answers = await at.read(work)
    query = urlencode({"by": by, "days": days})
    view = Shown(
        lead=at.words("following.funnel_lead", count=sum(line.counts.get("found", 0) for line in lines)),
        ways=[_choice(at, f"by_{way}", way == by, by=way, days=days) for way in measure.BY],
        spans=[_choice(at, "days", span == days, by=by, days=span) for span in SPANS],
        csv=f"/operator/funnel.csv?{query}",
        heads=[at.words(f"following.step.{step}") for step in SHOWN_STEPS],
        first=at.words(f"following.by_{by}"),
        rows=[_line_row(line, by, at.context, at.words) for line in lines],
        promises=[_promise(name, share, at.words) for name, share in measured.promises.items()],
        names=[at.words(f"following.promise.{name}") for name in measured.promises],
        workshops=[_keeping(keeping, at.words) for keeping in measured.workshops],
        effort=_effort(measured, at.words),
        effects=[_effect(effect, at.words) for effect in measured.effects],
        answers=[_answers(score, at.words) for score in answers if score.asked],
    )
    return at.answer("operator_funnel.html", "funnel", view)


def _wanted(request: web.Request) -> tuple[str, int]:
    by, days = request.query.get("by", "rule"), request.query.get("days", "90")
    return by if by in measure.BY else "rule", int(days) if days in map(str, SPANS) else 90


def _choice(at: _Page, name: str, chosen: bool, *, by: str, days: int) -> Shown:
    label = at.words(f"following.{name}", count=days)
    return Shown(label=label, href=f"/operator/funnel?{urlencode({'by': by, 'days': days})}", current=chosen)


def _line_row(line: measure.FunnelLine, by: str, context: Context, words: Words) -> Shown:
    counts, found = line.counts, max(1, line.counts.get("found", 0))
    held = counts.get("held_out", 0)
    return Shown(
        name=views.group_name(line.key, by, context, words),
        href=f"/operator/rules/{quote(line.key)}" if by == "rule" else "",
        note=words("following.held_out", count=held) if held else "",
        cells=[_cell(step, line, found, words) for step in SHOWN_STEPS],
        helped=_helped(counts, words),
    )


def _cell(step: str, line: measure.FunnelLine, found: int, words: Words) -> Shown:
    n, timing = line.counts.get(step, 0), line.times.get(step)
    took = ""
    if timing is not None:
        took = words("following.took", median=words.span(timing.median_ms), p90=words.span(timing.p90_ms))
    return Shown(count=words.number(n), bar=charts.share_bar(n / found) if n else "", took=took)


def _helped(counts: Mapping[str, int], words: Words) -> str:
    of = counts.get("looked_at", 0)
    return (
        words("following.helped", good=words.number(counts.get("helped", 0)), of=words.number(of))
        if of
        else "–"
    )


def _promise(name: str, share: measure.Share, words: Words) -> Shown:
    return Shown(label=words(f"following.promise.{name}"), **_share(share, words))


def _keeping(keeping: measure.Keeping, words: Words) -> Shown:
    return Shown(
        name=keeping.name,
        jobs=words("following.jobs", count=keeping.jobs),
        cells=[_share(share, words) for share in keeping.promises.values()],
    )


def _share(share: measure.Share, words: Words) -> dict[str, Any]:
    if share.share is None or share.interval is None:
        return {"text": words("following.none_yet"), "bar": "", "sure": ""}
    low, high = (words.number(100 * edge) for edge in share.interval)
    return {
        "text": words("following.share", percent=words.number(100 * share.share), of=words.number(share.of)),
        "bar": charts.share_bar(share.share),
        "sure": words("following.between", low=low, high=high),
    }


def _effort(measured: measure.Measures, words: Words) -> str:
    if not measured.matters:
        return words("following.none_yet")
    messages, contacts = (
        words.number(n / measured.matters, 1) for n in (measured.messages, measured.contacts)
    )
    return words("following.effort", messages=messages, contacts=contacts, count=measured.matters)


def _effect(effect: measure.Effect, words: Words) -> Shown:
    name = views.rule_name(effect.rule, words) if effect.rule else words("following.all_rules")
    sure = ""
    if effect.difference is not None:
        low, high = (words.number(100 * edge) for edge in effect.difference)
        sure = words("following.difference", low=low, high=high)
    return Shown(
        name=name,
        told=_share(effect.told, words)["text"],
        held=_share(effect.held, words)["text"],
        sure=sure,
    )


def _answers(score: Score, words: Words) -> Shown:
    """The mean with how sure it is, and of those who said it, better and worse than expected."""
    low, high = SCALES[score.question]
    said = [words(f"following.said_expected.{way}", count=n) for way, n in sorted(score.expected.items())]
    mean, text, between = score.mean, "–", ""
    if mean is not None:
        text = words("following.mean", mean=words.number(mean, 1), most=high)
    if score.interval is not None:
        least, most = (words.number(edge, 1) for edge in score.interval)
        between = words("following.between_plain", low=least, high=most)
    return Shown(
        label=score.question.upper(),
        text=text,
        bar=charts.share_bar((mean - low) / (high - low)) if mean is not None else "",
        sure=words("following.answered_of", count=score.answered, of=words.number(score.asked)),
        between=between,
        expected=" · ".join(said),
    )


CSV_TIMES = ("sent", "seen", "answered", "booked", "done")


@routes.get("/operator/funnel.csv")
@allow(Role.OPERATOR)
async def funnel_csv(request: web.Request) -> web.Response:
    """The same as a table for a spreadsheet; times in seconds."""
    at = await _open(request)
    by, days = _wanted(request)
    since, policy = at.now - days * DAY_MS, at.context.policy
    lines = await at.read(lambda r: measure.funnel(r, by, since, at.now + 1, at.now, policy))
    day = datetime.fromtimestamp(at.now / 1000, UTC).date().isoformat()
    return web.Response(
        text=_csv(lines, by),
        content_type="text/csv",
        charset="utf-8",
        headers={
            "Content-Disposition": f'attachment; filename="funnel-{by}-{day}.csv"',
            "Cache-Control": "no-store",
        },
    )


def _csv(lines: Sequence[measure.FunnelLine], by: str) -> str:
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\r\n")  # RFC 4180
    counted = (*STEPS, "looked_at", "declined", "silent", "held_out")
    table.writerow([by, *counted, *(f"{s}_{q}_s" for s in CSV_TIMES for q in ("median", "p90"))])
    for line in lines:
        times = (line.times.get(step) for step in CSV_TIMES)
        timed = [
            seconds
            for t in times
            for seconds in ((round(t.median_ms / 1000), round(t.p90_ms / 1000)) if t else ("", ""))
        ]
        table.writerow([_safe(line.key), *(line.counts.get(name, 0) for name in counted), *timed])
    return out.getvalue()


def _safe(text: str) -> str:
    """A spreadsheet must not take a model's name for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t") else text
