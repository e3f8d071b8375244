"""The operator's commands. Each opens only the stores it needs and prints one thing."""

from __future__ import annotations

import argparse
import asyncio
import base64
import dataclasses
import json
import os
import re
import secrets
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import config
from config import settings as configuration
from gateway.adapters.geography import Earth
from gateway.domain.access import Role, issue_token
from gateway.domain.delivery import DeliveryState
from gateway.domain.errors import CannotStartError, NotFoundError, TouchpointError
from gateway.domain.times import parse_rfc3339, rfc3339
from gateway.parts import (
    Decoding,
    Stores,
    calendar_key,
    make_policy,
    open_journal,
    open_timeseries,
    prepare,
    recall_births,
    set_up_logging,
)
from gateway.ports import Records
from gateway.sources import LANGUAGES, load_rules, load_signals, read_sources, rule_texts, signal_texts

if TYPE_CHECKING:
    from gateway.domain.device import Device
    from gateway.domain.explaining import Told, ToldRule
    from gateway.domain.message_check import MessageFault
    from gateway.domain.texts import Texts
    from rules import Catalogue
    from rules.explain import RuleExplanation

T = TypeVar("T")

NO_EXAMPLES = """no rule here has examples, so nothing was run; write below each rule one that fires, and one
that nearly does (docs/rules.md, examples):

  examples:
    - given: {coolant_temperature: [[0m, 90], [1m, 116]]}
      expect: {fires_at: 1m}
    - given: {coolant_temperature: [[0m, 90], [1m, 115]]}
      expect: {never: true}"""

UNITS_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}


def settings_of(arguments: argparse.Namespace) -> configuration.Settings:
    """The settings a command runs with."""
    return configuration.load(getattr(arguments, "config", None), os.environ)


def with_stores(arguments: argparse.Namespace, work: Callable[[Stores], Awaitable[T]]) -> T:
    """Open the stores, do the work, close them; domain errors become one line."""

    async def go() -> T:
        async with Stores.opened(settings_of(arguments)) as stores:
            return await work(stores)

    try:
        return asyncio.run(go())
    except TouchpointError as error:
        raise CannotStartError(str(error)) from error


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def show(rows: Sequence[Mapping[str, Any]], *, as_json: bool, empty: str) -> None:
    """A table for people, JSON for scripts."""
    if as_json:
        print(json.dumps(rows, ensure_ascii=False, indent=2, default=str))
        return
    if not rows:
        print(empty)
        return
    texts = [{key: "" if value is None else str(value) for key, value in row.items()} for row in rows]
    widths = {key: max(len(key), *(len(row[key]) for row in texts)) for key in texts[0]}
    print("  ".join(key.ljust(width) for key, width in widths.items()).rstrip())
    for row in texts:
        print("  ".join(row[key].ljust(width) for key, width in widths.items()).rstrip())


# --- setup and doctor -------------------------------------------------------------------------


def setup(arguments: argparse.Namespace) -> int:
    """Create what the stores need; repeating it changes nothing."""
    settings = settings_of(arguments)
    for line in asyncio.run(prepare(settings)):
        print(line)
    return 0


def doctor(arguments: argparse.Namespace) -> int:
    """One line for each part: what, state, what to do."""
    from gateway.doctor import examine

    try:
        settings = settings_of(arguments)
    except configuration.SettingsError as error:
        rows: Sequence[Mapping[str, str]] = [
            {"what": "settings", "state": "wrong", "do": line} for line in str(error).splitlines()
        ]
    else:
        rows = asyncio.run(examine(settings))
    show(rows, as_json=arguments.json, empty="nothing to check")
    return 1 if any(row["state"] == "wrong" for row in rows) else 0


# --- tokens -----------------------------------------------------------------------------------


def duration_ms(text: str) -> int:
    """Milliseconds of 30m, 12h, 90d; CannotStartError otherwise."""
    match = re.fullmatch(r"([1-9][0-9]{0,5})([mhd])", text)
    if match is None:
        raise CannotStartError(f"--ttl {text}: write a number and m, h or d, for example 90d")
    return int(match[1]) * UNITS_MS[match[2]]


def keys_rotate(arguments: argparse.Namespace) -> int:
    """A new key for the database's secrets; the gateway may run meanwhile."""
    count = with_stores(arguments, lambda stores: stores.database.new_key())
    print(f"{_number(count, 'secret')} sealed under a new key; backups of before need the key file of before")
    return 0


def token_create(arguments: argparse.Namespace) -> int:
    """Print a new token; only its hash is kept."""
    try:
        token, secret = issue_token(
            Role(arguments.role),
            arguments.subject,
            ttl_ms=duration_ms(arguments.ttl),
            now=time.time_ns() // 1_000_000,
            random=secrets.token_bytes,
        )
    except ValueError as error:
        raise CannotStartError(
            f"{error}: --subject is the id of the owner or workshop, or what an operator or system is called"
        ) from error

    def work(records: Records) -> bool:
        records.tokens.add(token)
        look = {Role.OWNER: records.owners.get, Role.WORKSHOP: records.workshops.get}.get(token.role)
        try:
            return look is None or bool(look(str(token.subject)))
        except NotFoundError:
            return False

    if not with_stores(arguments, lambda stores: stores.database.write(work)):
        print(f"note: there is no {token.role} {token.subject} yet", file=sys.stderr)
    print(secret)
    return 0


def token_list(arguments: argparse.Namespace) -> int:
    """All tokens, without their secrets."""
    tokens = with_stores(arguments, lambda stores: stores.database.read(lambda r: r.tokens.page()))
    rows = [
        {
            "id": token.id,
            "role": token.role.value,
            "subject": token.subject,
            "created": rfc3339(token.created),
            "expires": rfc3339(token.expires),
            "revoked": rfc3339(token.revoked) if token.revoked else None,
        }
        for token in tokens
        if token.opened_by is None  # sessions of browsers end with the token that opened them
    ]
    show(rows, as_json=arguments.json, empty="no tokens yet: touchpoint token create --role operator")
    return 0


def token_revoke(arguments: argparse.Namespace) -> int:
    """End a token; a running gateway refuses it within a second."""
    now = time.time_ns() // 1_000_000
    done = with_stores(
        arguments, lambda stores: stores.database.write(lambda r: r.tokens.revoke(arguments.id, now))
    )
    print(f"revoked {arguments.id}" if done else f"no running token {arguments.id}: touchpoint token list")
    return 0 if done else 1


# --- quarantine, journal, outbox --------------------------------------------------------------


def quarantine_list(arguments: argparse.Namespace) -> int:
    """What could not be decoded, newest first."""
    rows = with_stores(
        arguments,
        lambda stores: stores.database.read(
            lambda r: r.quarantine.page(limit=arguments.limit, reason=arguments.reason)
        ),
    )
    table = [
        {
            "position": row.position,
            "received": rfc3339(row.received),
            "topic": row.topic,
            "bytes": len(row.payload),
            "reason": row.reason,
            "detail": row.detail,
            "replayed": rfc3339(row.replayed) if row.replayed else None,
        }
        for row in rows
    ]
    show(table, as_json=arguments.json, empty="the quarantine is empty")
    return 0


def quarantine_show(arguments: argparse.Namespace) -> int:
    """One message as it came."""
    row = with_stores(
        arguments, lambda stores: stores.database.read(lambda r: r.quarantine.get(arguments.position))
    )
    print(f"topic:    {row.topic}\nreceived: {rfc3339(row.received)}")
    print(f"reason:   {row.reason}\n          {row.detail}")
    try:
        print(f"payload:  {row.payload.decode()}")
    except UnicodeDecodeError:
        print(f"payload:  {base64.b64encode(row.payload).decode()} (base64)")
    return 0


def quarantine_replay(arguments: argparse.Namespace) -> int:
    """Put messages into the journal again; the running gateway takes them up."""
    from gateway.flow.quarantine import replay

    if not arguments.positions and not arguments.reason:
        raise CannotStartError(
            "name positions, or --reason for all of one reason: touchpoint quarantine list"
        )
    count = with_stores(
        arguments,
        lambda stores: replay(
            stores.database,
            stores.journal,
            positions=arguments.positions,
            reason=arguments.reason,
            now=time.time_ns() // 1_000_000,
        ),
    )
    print(f"{_number(count, 'message')} put into the journal again")
    return 0 if count else 1


def journal_status(arguments: argparse.Namespace) -> int:
    """Positions, lag and size."""

    async def status(stores: Stores) -> Mapping[str, Any]:
        await stores.journal.read(2**62, limit=1)
        return stores.journal.status()

    state = with_stores(arguments, status)
    if arguments.json:
        print(json.dumps(state, indent=2))
        return 0
    print(f"entries {state['first']} to {state['head']}, {state['bytes']:,} of {state['max_bytes']:,} bytes")
    rows = [{"reader": name, **reader} for name, reader in state["readers"].items()]
    show(rows, as_json=False, empty="no reader yet")
    return 0


def outbox_list(arguments: argparse.Namespace) -> int:
    """What is to be sent, was sent, or could not be sent."""
    states = [DeliveryState(arguments.state)] if arguments.state else []
    rows = with_stores(
        arguments,
        lambda stores: stores.database.read(lambda r: r.outbox.page(states=states, limit=arguments.limit)),
    )
    table = [
        {
            "id": row.id,
            "channel": row.channel,
            "target": row.target,
            "state": row.state.value,
            "attempts": row.attempts,
            "due": rfc3339(row.due_at),
            "touchpoint": row.touchpoint,
        }
        for row in rows
    ]
    show(table, as_json=arguments.json, empty="nothing here")
    return 0


def outbox_retry(arguments: argparse.Namespace) -> int:
    """Dead letters become pending again."""
    now = time.time_ns() // 1_000_000

    def again(records: Records) -> None:
        for delivery in arguments.ids:
            records.outbox.retry(delivery, now)

    with_stores(arguments, lambda stores: stores.database.write(again))
    print(f"{len(arguments.ids)} will be sent again")
    return 0


# --- mail -------------------------------------------------------------------------------------

COME_AGAIN, BAD_DATA = 75, 65
"""EX_TEMPFAIL and EX_DATAERR of sysexits.h, which mail servers know."""


def mail_receive(arguments: argparse.Namespace) -> int:
    """Take one mail from standard input."""
    from gateway.adapters.clock import SystemClock
    from gateway.flow.mail import MailboxFullError, receive_mail
    from gateway.ports import TROUBLES

    settings = settings_of(arguments)
    set_up_logging(settings)  # on standard error: standard output says what became of it
    raw = sys.stdin.buffer.read(settings.mail.max_bytes + 1)
    if len(raw) > settings.mail.max_bytes:
        print(f"larger than mail.max_bytes ({settings.mail.max_bytes}): not taken", file=sys.stderr)
        return BAD_DATA
    rules = load_rules(rule_texts(settings.rules.paths), load_signals(signal_texts(settings.signals.paths)))

    async def work(stores: Stores) -> Sequence[str]:
        policy = dataclasses.replace(make_policy(settings, rules), calendar_key=calendar_key(settings))
        results = await receive_mail(stores.database, SystemClock(), policy, raw, arguments.to)
        return [f"{result.outcome}: {result.reason}" for result in results]

    try:
        lines = with_stores(arguments, work)
    except (MailboxFullError, *TROUBLES) as error:
        print(f"come again later: {error}", file=sys.stderr)
        return COME_AGAIN
    _show_lines(lines, as_json=False)
    return 0


def mail_list(arguments: argparse.Namespace) -> int:
    """Mail that came in, and what became of it."""
    rows = with_stores(
        arguments,
        lambda stores: stores.database.read(
            lambda r: r.calendars.mails(waiting=arguments.waiting, limit=arguments.limit)
        ),
    )
    table = [
        {
            "id": row.id,
            "at": rfc3339(row.at),
            "from": row.sender,
            "subject": row.subject[:60],
            "outcome": row.outcome,
            "reason": row.reason,
        }
        for row in rows
    ]
    show(table, as_json=arguments.json, empty="nothing here")
    return 0


# --- rules ------------------------------------------------------------------------------------


def _rule_sources(arguments: argparse.Namespace) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    settings = settings_of(arguments)
    signals = [*settings.signals.paths, *map(str, arguments.signals)]
    return rule_texts(arguments.paths or settings.rules.paths), signal_texts(signals)


def _faults(arguments: argparse.Namespace) -> list[str]:
    """What is wrong with the rule files, file and line first."""
    import rules

    texts, signals = _rule_sources(arguments)
    return [str(fault) for fault in rules.check(texts, load_signals(signals))]


def _show_lines(lines: Sequence[str], *, as_json: bool) -> None:
    print(json.dumps(lines, ensure_ascii=False, indent=2) if as_json else "\n".join(lines))


def rules_check(arguments: argparse.Namespace) -> int:
    """0 when every rule is sound, 1 with every fault, file and line first."""
    faults = _faults(arguments)
    notes = [] if faults else _message_notes(arguments)
    faults += [str(note) for note in notes if not note.falls_back]
    if faults or arguments.json:
        _show_lines(faults, as_json=arguments.json)
        return 1 if faults else 0
    texts, signals = _rule_sources(arguments)
    rules, files = len(load_rules(texts, load_signals(signals)).rules), len(texts)
    for note in notes:
        print(f"note: {note}")
    print(f"{_number(rules, 'rule')} in {_number(files, 'file')}, {'all ' if rules > 1 else ''}sound")
    return 0


def _message_notes(arguments: argparse.Namespace) -> Sequence[MessageFault]:
    """What is missing or wrong in the texts of these rules."""
    from gateway.domain.message_check import check_rule
    from gateway.domain.texts import Texts

    texts, signals = _rule_sources(arguments)
    catalogue = load_signals(signals)
    messages = Texts({name: config.messages(name) for name in LANGUAGES})
    rules = load_rules(texts, catalogue).rules.values()
    return [fault for rule in rules for fault in check_rule(messages, rule, catalogue)]


def rules_test(arguments: argparse.Namespace) -> int:
    """0 when every example comes out as it says, 1 otherwise; a broken file has nothing to run."""
    import rules

    faults = _faults(arguments)
    if faults:
        _show_lines(faults, as_json=arguments.json)
        return 1
    texts, signals = _rule_sources(arguments)
    results = rules.run_examples(load_rules(texts, load_signals(signals)), Earth())
    failed = [result for result in results if not result.passed]
    if arguments.json:
        print(json.dumps([dataclasses.asdict(result) for result in results], ensure_ascii=False, indent=2))
    else:
        for r in failed:
            print(f"{r.file}:{r.line}: {r.rule}: expected: {r.expected}; happened: {r.happened}")
        print(f"{len(results) - len(failed)} passed, {len(failed)} failed" if results else NO_EXAMPLES)
    return 1 if failed else 0


def rules_explain(arguments: argparse.Namespace) -> int:
    """Each part of a rule's condition with its value: 0 when the rule is true, 1 when it is not."""
    from gateway.domain.explaining import told
    from gateway.domain.texts import Texts
    from gateway.web.render import ZONE

    try:
        at = None if arguments.at is None else parse_rfc3339(arguments.at)
    except ValueError as error:
        raise CannotStartError(f"--at {arguments.at}: {error}") from error
    settings = settings_of(arguments)
    device, found, signals = with_stores(
        arguments, lambda stores: _explained(stores, settings, arguments.rule, arguments.device, at)
    )
    texts = Texts({name: config.messages(name) for name in LANGUAGES})
    language = texts.language(arguments.language or _spoken(os.environ))
    words = told(found, device.kind, signals, texts, language, ZONE)
    if arguments.json:
        print(
            json.dumps(dataclasses.asdict(found) | {"words": dataclasses.asdict(words)}, ensure_ascii=False)
        )
    else:
        _show_told(words, texts, language)
    return 0 if words.holds else 1


async def _explained(
    stores: Stores, settings: configuration.Settings, rule: str, device: str, at: int | None
) -> tuple[Device, RuleExplanation, Catalogue]:
    """By the rules in force, or the files where none ever were."""
    from gateway.adapters.codec_sparkplug import Births
    from gateway.adapters.rule_state import SqliteRuleState
    from gateway.flow.directory import Directory
    from gateway.flow.explain import explain_at, explain_now
    from gateway.flow.rule_sets import parse, stored

    database = stores.database
    held = await database.read(lambda records: records.rule_sets.at())
    rules = await stored(database, held.rule_set) if held else parse(read_sources(settings))
    kind = Directory(settings.devices.kinds).by_pattern(device)
    if at is None:
        state = SqliteRuleState(settings.data_dir / "state.db")
        births = Births()
        decoder = Decoding(
            None,
            ahead_ms=settings.devices.clock_ahead_s * 1000,
            formats=settings.codecs,
            births=births,
        )
        decoder.take(rules)
        journal = open_journal(settings, decoder)
        try:
            await recall_births(births, settings, state, journal)
            found = await explain_now(
                rules,
                rule,
                device,
                database=database,
                state=state,
                journal=journal,
                now=time.time_ns() // 1_000_000,
                kind=kind,
                geography=Earth(),
            )
        finally:
            await journal.close()
            await state.close()
    else:
        timeseries = open_timeseries(settings, rules.catalogue)
        try:
            found = await explain_at(
                rules,
                rule,
                device,
                at,
                database=database,
                timeseries=timeseries,
                kind=kind,
                geography=Earth(),
            )
        finally:
            await timeseries.close()
    return *found, rules.catalogue


def _spoken(environment: Mapping[str, str]) -> str:
    """The language of who types."""
    said = (environment.get(name) for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    return next((value for value in said if value), "en")


def _show_told(words: ToldRule, texts: Texts, language: str) -> None:
    print(f"{words.rule} · {words.device} · {words.at}\n{words.headline}")
    if words.because:
        print(words.because)
    for key, part in (("when", words.when), ("clear", words.clear)):
        if part is not None:
            print(f"\n{texts.say(language, f'explain.{key}')}")
            for depth, inner in part.all():
                print(_told_line(depth, inner))


def _told_line(depth: int, part: Told) -> str:
    note = f" ({part.note})" if part.note else ""
    written = f"   [{part.text}]" if part.text not in part.words else ""
    return f"{'  ' * (depth + 1)}{part.words}: {part.value}{note}{written}"


def rules_schema(arguments: argparse.Namespace) -> int:
    """The JSON Schema that editors complete rule files by, with the kinds and signals that are configured."""
    from rules.schema import rule_schema, signal_schema

    if arguments.of == "signals":
        schema = signal_schema()
    else:
        paths = [*settings_of(arguments).signals.paths, *map(str, arguments.signals)]
        schema = rule_schema(load_signals(signal_texts(paths)))
    print(json.dumps(schema, ensure_ascii=False, indent=1))
    return 0


# --- simulator ----------------------------------------------------------------------------------


def sim_run(arguments: argparse.Namespace) -> int:
    """Play a scenario's devices in real time."""
    from device_sim.commands import run

    return run(arguments)


def sim_replay(arguments: argparse.Namespace) -> int:
    """Publish recorded readings."""
    from device_sim.commands import replay

    return replay(arguments)


def sim_load(arguments: argparse.Namespace) -> int:
    """Load a broker."""
    from device_sim.commands import load

    return load(arguments)
