"""Rules: those in force, why one is or is not true for a device, and reading them again."""

from __future__ import annotations

from pydantic import Field

from gateway.domain.access import Role
from gateway.domain.errors import NotFoundError
from gateway.domain.explaining import Told, told
from gateway.domain.policy import RuleInfo
from gateway.flow import rule_history
from gateway.flow.explain import explain_now, meant
from gateway.flow.rule_sets import Asked, RulesRefusedError
from gateway.web.access import STAFF
from gateway.web.api.endpoint import Call, Endpoints, ListQuery, Page, Query, page
from gateway.web.api.shapes import ExplanationOut, Id, Moment, Out, PartOut, ReloadOut, RuleOut, Word
from gateway.web.problems import Problem
from gateway.web.render import ZONE
from rules.explain import Explanation

endpoints = Endpoints("Rules")


class VersionOut(Out):
    """A rule as it held for a while."""

    version: int
    since: Moment
    until: Moment | None = Field(description="null: it holds.")
    by: str = Field(description="start, signal (a command on the machine), or who asked for it.")
    text: str = Field(description="As it stood in its file (YAML).")


class RuleDetail(RuleOut):
    """A rule, as deciding knows it, with its history."""

    versions: tuple[VersionOut, ...] = Field((), description="Those that held, the newest first.")


class RulesQuery(ListQuery):
    """Which rules."""

    kind: Word | None = Field(None, description="Device kind.")


@endpoints.get("/rules", *STAFF)
async def list_rules(call: Call, query: RulesQuery) -> Page[RuleOut]:
    """List the rules that run, by id."""
    after = query.after() or ""
    rows = [
        rule
        for rule in sorted(call.context.policy.rules.values(), key=lambda rule: rule.id)
        if rule.id > after and query.kind in (None, rule.kind)
    ]
    return page(rows, query.limit, RuleOut.of, lambda rule: rule.id)


@endpoints.get("/rules/{rule_id}", *STAFF)
async def get_rule(call: Call, rule_id: str) -> RuleDetail:
    """Show a rule, and every version of it that held."""
    rules = call.context.policy.rules
    rule: RuleInfo | None = rules.get(rule_id)
    if rule is None:
        raise NotFoundError(f"There is no rule {rule_id}{meant(rule_id, rules)}")
    held = await call.read(lambda r: rule_history.versions(r, rule_id))
    return RuleDetail.of(rule).model_copy(update={"versions": tuple(VersionOut.of(one) for one in held)})


class ExplainQuery(Query):
    """For which device."""

    device: Id


@endpoints.get("/rules/{rule_id}/explain", *STAFF)
async def explain_rule(call: Call, rule_id: str, query: ExplainQuery) -> ExplanationOut:
    """Say why a rule is, or is not, true for a device, each part of its condition with its value.

    Words come in the language that `Accept-Language` asks for.
    """
    context = call.context
    if context.in_force is None or context.state is None:
        raise Problem(503, "This process does not know the rules.")
    rules = context.in_force.rules
    device, found = await explain_now(
        rules,
        rule_id,
        query.device,
        database=context.database,
        state=context.state,
        journal=context.journal,
        now=call.now,
        kind=context.kind_of(query.device),
        geography=context.geography,
    )
    call.who.saw(device.owner, f"product:{device.id}", "check_product", device=device.id)
    words = told(found, device.kind, rules.catalogue, context.texts, call.language, ZONE)
    return ExplanationOut(
        rule=found.rule,
        version=found.version,
        device=found.device,
        at=found.at,
        holds=words.holds,
        pending_since=found.pending_since,
        open_since=found.open_since,
        headline=words.headline,
        because=words.because,
        when=part(found.when, words.when),
        clear=part(found.clear, words.clear) if found.clear and words.clear else None,
    )


def part(found: Explanation, words: Told) -> PartOut:
    """A part with its words, and all that it is made of."""
    return PartOut(
        text=found.text,
        words=words.words,
        value=found.value,
        unit=found.unit,
        value_words=words.value,
        note=words.note,
        parts=[part(inner, said) for inner, said in zip(found.parts, words.parts, strict=True)],
    )


@endpoints.post("/rules/reload", Role.OPERATOR)
async def reload_rules(call: Call) -> ReloadOut:
    """Read the rule and signal files of the settings again, all or nothing.

    With a fault nothing changes, and every fault is told with file, line and column. Otherwise the new set
    holds from a position of the journal on, an instant after the answer. What still means the same goes on.
    """
    if call.context.reloader is None:
        raise Problem(503, "This process cannot read the rules.")
    try:
        asked = await call.context.reloader.reload(call.who.name)
    except RulesRefusedError as error:
        raise refused(error) from error
    return reloaded(asked)


def reloaded(asked: Asked) -> ReloadOut:
    """As the API says it."""
    made = asked.activation
    return ReloadOut(
        id=made.id,
        rule_set=made.rule_set,
        rules=made.rules,
        changed=asked.changed,
        position=made.position,
    )


def refused(error: RulesRefusedError) -> Problem:
    """Every fault, with its place."""
    count = len(error.faults)
    return Problem(
        422,
        f"The files have {count} fault{'' if count == 1 else 's'}; the rules that held hold on.",
        kind="rules-refused",
        title="The rules cannot be used",
        faults=[
            {"file": f.file, "line": f.line, "column": f.column, "rule": f.rule, "message": f.message}
            for f in error.faults
        ],
    )
