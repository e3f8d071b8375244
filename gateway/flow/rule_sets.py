"""Rule sets: asked for by whoever runs the gateway, brought into the journal, held by every process.

Asking stores the texts and queues a control entry {"type": "rules", "set": hash}. assess lets the set hold
from that entry's position on, and says so in the database; the other processes follow from there. What has a
fault holds nowhere: the set before stays, and the faults are kept to be shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from gateway.domain.delivery import Delivery
from gateway.domain.ids import new_id
from gateway.domain.rule_sets import Activation, Sources, folded
from gateway.ports import ChangeFeed, Clock, Database, Records
from rules import Catalogue, Fault, RuleErrors, RuleSet, TextErrors, load

BY_START, BY_SIGNAL = "start", "signal"

log = structlog.get_logger()


class RulesRefusedError(Exception):
    """The rules cannot be used, each fault with file, line and column; what held before holds on."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = tuple(faults)


def parse(sources: Sources) -> RuleSet:
    """The rule set of these texts. Raises TextErrors with every fault."""
    return load(sources.rules, Catalogue.parse(sources.signals))


class RulesInForce:
    """The rule set that this process works with, and who follows it."""

    def __init__(self, rule_set: str, rules: RuleSet, *followers: Callable[[RuleSet], None]) -> None:
        self.rule_set = rule_set
        """`Sources.id`"""
        self.rules = rules
        self.followers = [*followers]

    def take(self, rule_set: str, rules: RuleSet) -> None:
        """From now on these; everybody who holds a part of them is told before this returns."""
        if rule_set == self.rule_set:
            return
        self.rule_set, self.rules = rule_set, rules
        for follow in self.followers:
            follow(rules)


# --- asking -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What became of asking for a rule set."""

    activation: Activation
    """the new one, or the one that had asked for the same set before"""
    changed: bool
    """whether something follows from it"""


def ask(records: Records, sources: Sources, rules: int, now: int, by: str) -> Asked:
    """Let a set hold from the journal's next entry on, unless it is the one that was asked for last."""
    last = records.rule_sets.asked()
    if last is not None and last.rule_set == sources.id:
        return Asked(activation=last, changed=False)
    activation = Activation(id=new_id(now), rule_set=sources.id, at=now, by=by, rules=rules)
    records.rule_sets.keep(sources)
    records.rule_sets.ask(activation)
    records.outbox.add(
        Delivery(
            id=activation.id,
            channel="journal",
            target="journal",
            key=f"rules/{activation.id}",
            payload={"type": "rules", "set": sources.id},
            due_at=now,
            created=now,
        )
    )
    return Asked(activation=activation, changed=True)


def note_refused(records: Records, rule_set: str, faults: Sequence[object], now: int, by: str) -> None:
    """Keep why a set cannot be used; the same faults once."""
    lines = folded(faults)
    newest = records.rule_sets.history(limit=1)
    if not newest or newest[0].faults != lines:
        records.rule_sets.ask(Activation(id=new_id(now), rule_set=rule_set, at=now, by=by, faults=lines))


class Reloader:
    """Reads the files again, all or nothing."""

    def __init__(
        self,
        *,
        read: Callable[[], Sources],
        database: Database,
        clock: Clock,
        announce: Callable[[], Awaitable[None]],
    ) -> None:
        """`read` raises TextErrors for files that cannot be read; `announce` carries control entries that
        are queued into the journal."""
        self._read = read
        self._database = database
        self._clock = clock
        self._announce = announce
        self._one_at_a_time = asyncio.Lock()

    async def reload(self, by: str) -> Asked:
        """Ask for the set that the files make. Raises RulesRefusedError; the set that holds holds on."""
        async with self._one_at_a_time:
            try:
                sources, rules = await asyncio.to_thread(self._checked)
            except TextErrors as error:
                await self._refuse(error.faults, by)
                raise RulesRefusedError(error.faults) from error
            now = self._clock.now()
            asked = await self._database.write(lambda r: ask(r, sources, len(rules.rules), now, by))
            if asked.changed:
                log.info("rules_asked_for", rule_set=sources.id, rules=len(rules.rules), by=by)
                await self._announce()
            else:
                log.info("rules_unchanged", rule_set=sources.id, by=by)
            return asked

    def _checked(self) -> tuple[Sources, RuleSet]:
        sources = self._read()
        return sources, parse(sources)

    async def _refuse(self, faults: Sequence[Fault], by: str) -> None:
        for fault in faults:
            log.error("rules_refused", fault=str(fault), by=by, effect="the rules that held hold on")
        now = self._clock.now()
        await self._database.write(lambda r: note_refused(r, "", faults, now, by))


# --- holding ----------------------------------------------------------------------------------


async def stored(database: Database, rule_set: str) -> RuleSet:
    """A set by its hash. Raises TextErrors where this version cannot use it, or does not have it."""
    sources = await database.read(lambda records: records.rule_sets.sources(rule_set))
    if sources is None:
        raise RuleErrors([fault_of(f"rule set {rule_set}", "its texts are not in the database")])
    return await asyncio.to_thread(parse, sources)


def fault_of(file: str, message: str) -> Fault:
    """A fault of a file as a whole."""
    return Fault(file=file, line=1, column=1, rule="", message=message)


async def follow(database: Database, in_force: RulesInForce, feed: ChangeFeed) -> None:
    """Until cancelled: take up what assess, in whatever process, has let hold."""
    while True:
        feed.take()
        holding = await database.read(lambda records: records.rule_sets.at())
        if holding is not None and holding.rule_set != in_force.rule_set:
            try:
                in_force.take(holding.rule_set, await stored(database, holding.rule_set))
                log.info("rules_followed", rule_set=holding.rule_set, position=holding.position)
            except TextErrors as error:
                log.error("rules_not_followed", rule_set=holding.rule_set, problem=str(error))
        await feed.event().wait()
