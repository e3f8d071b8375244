"""After-sales, recalls: begin one, and see how far each has come."""

from __future__ import annotations

from types import SimpleNamespace as Shown

from aiohttp import web

from gateway.domain.access import Role
from gateway.domain.errors import ConflictError, InvalidError
from gateway.domain.ids import new_id
from gateway.domain.policy import Policy
from gateway.domain.recall import Affected, Progress, Recall
from gateway.flow import recalls as flow
from gateway.ports import Records
from gateway.web.access import allow, who
from gateway.web.context import CONTEXT, Context
from gateway.web.render import page, see, words_for
from gateway.web.views import kind_words
from gateway.web.words import Words

routes = web.RouteTableDef()
operator_only = allow(Role.OPERATOR)

SHOWN = 50
STEPS = ("waiting", "nobody", "deferred", "open", "answered", "booked", "done")
LANGUAGES = ("en", "de")
MOST_CHARS = {"title": 200, "body": 2_000, "reference": 64}


@routes.get("/operator/recalls")
@operator_only
async def recalls(request: web.Request) -> web.Response:
    """All recalls, newest first, with a form for another one."""
    return await _shown(request)


async def _shown(request: web.Request, problem: str = "", form: dict[str, str] | None = None) -> web.Response:
    context, words = request.app[CONTEXT], await words_for(request)
    now = context.clock.now()

    def work(records: Records) -> list[tuple[Recall, Progress]]:
        return [(r, records.recalls.progress(r.id)) for r in records.recalls.page(limit=SHOWN)]

    found = await context.database.read(work)
    view = Shown(
        lead=words("recalls.lead", count=len(found)) if found else "",
        rows=[_row(recall, progress, words, now) for recall, progress in found],
        kinds=[(kind, kind_words(kind, context, words)) for kind in sorted(context.signals.kinds)],
        services=_services(context),
        problem=problem,
        form=form or {},
    )
    said = f"toast.recall_{request.query.get('said', '')}"
    toast = Shown(text=words(said), undo_url=None) if words.has(said) else None
    status = 422 if problem else 200
    response = page(request, "operator_recalls.html", words, tab="recalls", view=view, toast=toast)
    response.set_status(status)
    return response


def _row(recall: Recall, progress: Progress, words: Words, now: int) -> Shown:
    title = recall.title.get(words.language) or recall.title.get("en") or next(iter(recall.title.values()))
    share = 100 * progress.done // progress.devices if progress.devices else 0
    return Shown(
        title=title,
        line=" · ".join(part for part in (recall.reference, recall.id) if part),
        begun=words.moment(recall.created, now),
        devices=words.number(progress.devices),
        done=words("recalls.done_of", done=words.number(progress.done), share=share),
        steps=[
            (words(f"recalls.step_{step}"), words.number(getattr(progress, step)))
            for step in STEPS
            if getattr(progress, step)
        ],
    )


def _services(context: Context) -> list[str]:
    return sorted({rule.service for rule in context.policy.rules.values() if rule.service})


@routes.post("/operator/recalls")
@operator_only
async def begin(request: web.Request) -> web.Response:
    """Begin a recall."""
    context, words = request.app[CONTEXT], await words_for(request)
    now, given = context.clock.now(), await request.post()
    form = {name: str(value).strip() for name, value in given.items()}
    try:
        recall, affected = _read(form, now, who(request).name)
        if recall.kind not in context.signals.kinds:
            raise InvalidError("kind")
        await context.database.write(lambda records: _begin(records, recall, affected, now, context.policy))
    except InvalidError as error:
        key = f"recalls.problem_{error}"
        return await _shown(request, words(key if words.has(key) else "recalls.problem_none"), form)
    except ConflictError:
        return await _shown(request, words("recalls.problem_id"), form)
    return see("/operator/recalls", "begun")


def _begin(records: Records, recall: Recall, affected: Affected, now: int, policy: Policy) -> int:
    return flow.begin(records, recall, affected, now, policy)


def _read(form: dict[str, str], now: int, by: str) -> tuple[Recall, Affected]:
    """Raises InvalidError with the name of the field that is wrong."""
    title = {lang: form[f"title_{lang}"] for lang in LANGUAGES if form.get(f"title_{lang}")}
    body = {lang: form[f"body_{lang}"] for lang in LANGUAGES if form.get(f"body_{lang}")}
    if not title or any(len(text) > MOST_CHARS["title"] for text in title.values()):
        raise InvalidError("title")
    if any(len(text) > MOST_CHARS["body"] for text in body.values()):
        raise InvalidError("body")
    severity = form.get("severity", "warning")
    if severity not in ("warning", "critical"):
        raise InvalidError("severity")
    affected = Affected(
        devices=tuple(form.get("devices", "").replace(",", " ").split()),
        models=tuple(part.strip() for part in form.get("models", "").split(",") if part.strip()),
        firmware=tuple(part.strip() for part in form.get("firmware", "").split(",") if part.strip()),
        serial_from=form.get("serial_from") or None,
        serial_to=form.get("serial_to") or None,
    )
    if affected == Affected():
        raise InvalidError("affected")
    recall = Recall(
        id=new_id(now),
        kind=form.get("kind", ""),
        title=title,
        body=body,
        reference=form.get("reference", "")[: MOST_CHARS["reference"]] or None,
        service=form.get("service") or None,
        severity=severity,
        created=now,
        by=by,
    )
    return recall, affected
