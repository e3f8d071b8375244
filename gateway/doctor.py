"""doctor: one line for each part: what, state, what to do. It only looks."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import os
import shutil
import socket
from collections.abc import Awaitable, Callable, Mapping

from config.settings import Settings
from gateway.adapters.clock import SystemClock
from gateway.adapters.mqtt import BrokerError, last_loss
from gateway.adapters.mqtt_client import probe
from gateway.adapters.rule_state import SqliteRuleState
from gateway.channels.email import TIMEOUT_S as MAIL_TIMEOUT_S
from gateway.channels.email import MailError
from gateway.domain.errors import CannotStartError
from gateway.domain.times import rfc3339
from gateway.flow.rule_sets import parse
from gateway.parts import (
    SESSION_FILE,
    Stores,
    mail_channel,
    make_data_dir,
    make_policy,
    named_broker,
    open_timeseries,
)
from gateway.ports import TROUBLES
from gateway.sources import check_kinds, load_guides, load_signals, load_topics, read_sources, signal_texts
from rules import TextErrors

MAIL_PATIENCE_S = 5.0
"""For the mail server to take us; whoever asks waits for it."""
LOW_DISK = 1_000_000_000
"""Bytes of free space below which doctor warns."""

Line = Mapping[str, str]


async def examine(settings: Settings) -> list[Line]:
    """Every part's line; a part that is wrong does not keep the others from being looked at."""
    checks: list[tuple[str, Callable[[Settings], Awaitable[str]]]] = [
        ("data folder", _data_dir),
        ("signals and rules", _rules),
        ("guides and topics", _guides),
        ("broker", _broker),
        ("database and journal", _stores),
        ("time series", _timeseries),
        ("mail server", _mail),
        ("mail that comes in", _mail_in),
        ("pages", _web),
    ]
    lines: list[Line] = [{"what": "settings", "state": "good", "do": ""}]
    for what, check in checks:
        try:
            said = await check(settings)
            lines.append({"what": what, "state": "good", "do": said})
        except (CannotStartError, *TROUBLES, OSError) as error:
            lines.append({"what": what, "state": "wrong", "do": " ".join(str(error).split())})
    return lines


async def _data_dir(settings: Settings) -> str:
    folder = make_data_dir(settings)
    free = shutil.disk_usage(folder).free
    if free < LOW_DISK:
        raise CannotStartError(f"{folder} has {free // 1_000_000} MB left: make room, the journal needs it")
    return f"{folder}, {free // 1_000_000_000} GB free"


async def _rules(settings: Settings) -> str:
    """The files as they are now, and the set that holds, which may be another one."""
    try:
        sources = read_sources(settings)
        rules = parse(sources)
    except TextErrors as error:
        raise CannotStartError(f"the files cannot be used:\n{error}{await _held(settings)}") from error
    check_kinds(settings.devices.kinds, rules.catalogue)
    make_policy(settings, rules)
    return f"{len(rules.rules)} rules{await _held(settings, sources.id)}"


async def _guides(settings: Settings) -> str:
    guides, topics = load_guides(settings.guides.paths), load_topics(settings.follow_up.topics)
    return f"{len(guides)} guides, {len(topics.topics)} topics"


async def _held(settings: Settings, files: str | None = None) -> str:
    """What is to be said of the set in force beside the files; nothing where they are the same."""
    if not settings.database_path.exists():
        return ""
    async with Stores.opened(settings) as stores:
        held, asked, newest = await stores.database.read(
            lambda r: (r.rule_sets.at(), r.rule_sets.asked(), r.rule_sets.history(limit=1))
        )
    if held is None:
        return ""
    holds = f"; {held.rules} rules hold on from {rfc3339(held.at)}"
    if files is None:
        return holds
    if newest and newest[0].refused and asked and newest[0].rule_set == files:
        raise CannotStartError(f"the gateway refused the files: {newest[0].faults[0]}{holds}")
    if held.rule_set == files:
        return " in force"
    under_way = asked is not None and asked.rule_set == files
    do = "on their way" if under_way else "read them again: kill -HUP, or POST /api/v1/rules/reload"
    return f" in the files, not in force yet: {do}{holds}"


async def _broker(settings: Settings) -> str:
    if settings.mqtt.embedded:
        return "embedded: loopback only, one machine, not for production"
    try:
        said = await probe(dataclasses.replace(named_broker(settings), client_id=f"doctor-{os.getpid()}"))
    except BrokerError as error:
        raise CannotStartError(str(error)) from error
    lost_at = last_loss(settings.data_dir / SESSION_FILE)
    if lost_at is None:
        return said
    return f"{said}; it had forgotten our session at {rfc3339(lost_at)}: turn its persistence on"


async def _stores(settings: Settings) -> str:
    async with Stores.opened(settings) as stores:
        await stores.journal.read(2**62, limit=1)
        state = stores.journal.status()
    remembered = SqliteRuleState(settings.data_dir / "state.db")
    try:
        await remembered.position()
    finally:
        await remembered.close()
    lags = [f"{name} {reader['lag']:,} behind" for name, reader in state["readers"].items()]
    used = 100 * state["bytes"] / state["max_bytes"]
    if used > 90:
        raise CannotStartError(
            f"the journal is {used:.0f} % full: see which reader is behind (touchpoint journal status), "
            "or raise journal.max_bytes"
        )
    return ", ".join([f"journal {used:.0f} % full", *lags])


async def _timeseries(settings: Settings) -> str:
    signals = load_signals(signal_texts(settings.signals.paths))
    store = open_timeseries(settings, signals)
    try:
        return await store.check()
    finally:
        await store.close()


async def _mail(settings: Settings) -> str:
    """Greets the mail server, encrypts, signs in; sends nothing."""
    channel = mail_channel(settings, SystemClock())
    if channel is None:
        return "none named: no e-mail is sent; set deliver.email.url to have it sent"
    try:
        said = await channel.check(MAIL_PATIENCE_S)
    except TimeoutError as error:
        raise CannotStartError(
            f"{channel.host_name} has not answered within {MAIL_PATIENCE_S:g} s (a mail is given "
            f"{MAIL_TIMEOUT_S:g} s): see deliver.email.url, and whether a firewall is between"
        ) from error
    except (MailError, OSError) as error:
        raise CannotStartError(
            f"{channel.host_name} does not take our mail ({type(error).__name__}: {error}): "
            "see deliver.email.url and deliver.email.starttls"
        ) from error
    bounces = settings.deliver.email.bounce_domain
    return (
        said if bounces else f"{said}; bounces go to the sender: set deliver.email.bounce_domain to read them"
    )


async def _mail_in(settings: Settings) -> str:
    """Where answers to invitations arrive, and whether anything would hand them on."""
    address, reply_to = settings.mail.address, settings.mail.reply_to
    if not reply_to:
        return "no address for answers: invitations are answered on the page; set mail.reply_to"
    if address is None:
        return f"answers go to {reply_to}; hand them in by touchpoint mail receive or POST /api/v1/mail"
    return f"answers go to {reply_to}; {await _port(*address, 'mail.listen')}"


async def _web(settings: Settings) -> str:
    return await _port(settings.web.host, settings.web.port, "web.host and web.port")


async def _port(host: str, port: int, setting: str) -> str:
    """Whether it is free."""

    def bind() -> None:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))

    try:
        await asyncio.to_thread(bind)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise CannotStartError(
                f"cannot listen on {host}:{port} ({error.strerror}): set {setting}"
            ) from error
        return f"{host}:{port} is in use: good if that is the gateway, else set {setting}"
    return f"{host}:{port} is free"
