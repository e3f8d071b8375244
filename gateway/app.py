"""Wiring: the one place where settings become parts and parts become a gateway."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import errno
import gc
import os
import random
import shutil
import signal
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import structlog
import uvloop
from aiohttp import web

import config
from config import settings as configuration
from firmware_api.ddi import DdiSettings
from firmware_api.ddi import application as ddi_application
from firmware_api.ddi import prefix as ddi_prefix
from firmware_api.office import Office
from firmware_api.routes import application as firmware_application
from firmware_api.store import FirmwareStore
from gateway.adapters.calendar_feed import HttpCalendars
from gateway.adapters.clock import SystemClock, VirtualClock
from gateway.adapters.codec_sparkplug import Births, rebirth
from gateway.adapters.database import SqlDatabase
from gateway.adapters.geography import Earth
from gateway.adapters.journal import SqliteJournal
from gateway.adapters.mail_in import MailServer
from gateway.adapters.mqtt import Broker, MqttSource
from gateway.adapters.mqtt_client import MqttClient
from gateway.adapters.rule_state import SqliteRuleState
from gateway.channels.display import DisplayChannel
from gateway.channels.journal import JournalChannel
from gateway.channels.vapid import Vapid
from gateway.channels.web_push import WebPushChannel
from gateway.channels.webhook import AddressError, check_url
from gateway.domain.counters import Counters
from gateway.domain.errors import CannotStartError
from gateway.domain.guides import Guide
from gateway.domain.ids import new_id
from gateway.domain.policy import Policy
from gateway.domain.rule_sets import Activation, Sources
from gateway.domain.texts import Texts
from gateway.flow import book
from gateway.flow.afterwards import Afterwards
from gateway.flow.assess import FACTS_EVERY_MS, STATE_EVERY_MS, Assessor
from gateway.flow.busy_feeds import BusyFeeds
from gateway.flow.course import Courses
from gateway.flow.deliver import Deliverer, Timers, deliver_now
from gateway.flow.directory import Directory
from gateway.flow.operator_news import OperatorNews
from gateway.flow.outgoing import Renderer
from gateway.flow.rebirth import Rebirths
from gateway.flow.receive import receive
from gateway.flow.record import LINGER_MS, Recorder
from gateway.flow.respond import Responder
from gateway.flow.rule_sets import (
    BY_SIGNAL,
    BY_START,
    Reloader,
    RulesInForce,
    RulesRefusedError,
    follow,
    note_refused,
    parse,
    stored,
)
from gateway.flow.updates import Updates
from gateway.parts import (
    GC_THRESHOLDS,
    READERS,
    Role,
    calendar_key,
    decoding,
    load_vapid,
    lock_data_dir,
    make_calendars,
    make_data_dir,
    make_mail_server,
    make_policy,
    make_source,
    open_broker,
    open_database,
    open_journal,
    open_timeseries,
    outward_channels,
    policy_follower,
    recall_births,
    set_up_logging,
)
from gateway.ports import TROUBLES, Channel, Clock, Records, StoreUnavailableError, TimeSeries
from gateway.sources import LANGUAGES, check_kinds, load_guides, load_topics, read_sources
from gateway.web.context import Context, Demo
from gateway.web.server import make_app, make_ops_app
from gateway.web.sso import Oidc, OidcProvider
from gateway.web.updates import FirmwareDesk
from gateway.web.warming import warm_in_time
from rules import Engine, Fault, RuleSet, TextErrors
from rules.places import Geography

RUNS_WELL_S = 10.0
"""Seconds after which a part that was begun again is taken as mended."""
CANCEL_AGAIN_S = 2.0
"""Seconds after which a task that was cancelled and goes on is cancelled again."""
LEAST_ROOM = 1_000_000
"""Bytes of free disk below which the gateway says that it is not ready: its stores write no more."""

log = structlog.get_logger()


# --- the gateway ------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Gateway:
    """All parts, open, and what runs them."""

    settings: configuration.Settings
    role: Role
    clock: Clock
    counters: Counters
    in_force: RulesInForce
    policy: Policy
    texts: Texts
    directory: Directory
    database: SqlDatabase
    journal: SqliteJournal
    timeseries: TimeSeries
    broker: Broker
    vapid: Vapid
    renderer: Renderer
    publisher: MqttClient
    channels: dict[str, Channel]
    source: MqttSource
    state: SqliteRuleState
    """the rules' state, to be looked at; assess writes through one of its own"""
    births: Births = field(default_factory=Births)
    """what Sparkplug's nodes have said that they speak of"""
    geography: Geography = field(default_factory=Earth)
    facts_every_ms: int = FACTS_EVERY_MS
    mail_server: MailServer | None = None
    """where mail comes in; None when the settings name no address"""
    calendars: HttpCalendars | None = None
    """fetches workshops' own calendars"""
    failures: dict[str, str] = field(default_factory=dict)
    """workers that broke and are being started again: name → what happened"""
    url: str = ""
    """under which the pages are reached, once they are"""
    refused: tuple[Fault, ...] = ()
    """why the files of the settings were not taken at the start; the stored set that held before holds"""

    def __post_init__(self) -> None:
        self.reloader = Reloader(
            read=lambda: read_sources(self.settings),
            database=self.database,
            clock=self.clock,
            announce=self.announce,
        )

    # --- what runs ----------------------------------------------------------------------------

    def workers(self) -> Iterator[tuple[str, Callable[[], Coroutine[Any, Any, None]]]]:
        """(name, what it does) for every long task of this role."""
        yield "directory", self._follow_directory
        yield "rules", self._follow_rules
        if self.role in ("all", "ingest"):
            yield "broker", self.source.run
            yield "receive", self._receive
            yield "record", self._record
            yield "assess", self._assess
            yield "respond", self._respond
        if self.role in ("all", "deliver"):
            yield "display", self.publisher.run
            yield "deliver", self._deliver
            yield "timers", self._time
            yield "afterwards", self._follow_up
            if self.mail_server is not None:
                yield "mail", self.mail_server.run
            if self.calendars is not None:
                yield "busy", BusyFeeds(self.database, self.clock, self.calendars, self.policy).run

    async def _follow_directory(self) -> None:
        feed = self.database.watch("device")
        try:
            await self.directory.load(self.database)
            while True:
                await feed.event().wait()
                await self.directory.refresh(self.database, feed)
        finally:
            feed.close()

    async def _follow_rules(self) -> None:
        """Take up what assess let hold; where files were changed while nobody ran, ask for them first."""
        feed = self.database.watch("rules")
        try:
            if self.role in ("all", "ingest") and not self.refused:
                with contextlib.suppress(RulesRefusedError):  # said, and shown
                    await self.reloader.reload(BY_START)
            await follow(self.database, self.in_force, feed)
        finally:
            feed.close()

    async def _receive(self) -> None:
        counters = self.counters
        await receive(
            self.source,
            self.journal,
            self.clock,
            counters,
            random=random.random,
            # A played clock stands still while history arrives: nothing may wait for it.
            behind=None if isinstance(self.clock, VirtualClock) else self.behind,
        )

    async def _record(self) -> None:
        await Recorder(
            journal=self.journal,
            timeseries=self.timeseries,
            database=self.database,
            clock=self.clock,
            counters=self.counters,
            kinds=self.directory.kind_and_model,
            random=random.random,
            linger_ms=0 if isinstance(self.clock, VirtualClock) else LINGER_MS,
        ).run()

    async def _assess(self) -> None:
        state = SqliteRuleState(self.settings.data_dir / "state.db")
        try:
            rules = await self.rules_at(await state.position())
            await Assessor(
                journal=self.journal,
                database=self.database,
                state=state,
                engine=Engine(
                    rules,
                    future_tolerance_ms=self.settings.devices.clock_ahead_s * 1000,
                    lateness_ms=self.settings.rules.lateness_s * 1000,
                    geography=self.geography,
                ),
                clock=self.clock,
                counters=self.counters,
                policy=self.policy,
                kind_of=self.directory.by_pattern,
                in_force=self.in_force,
                timeseries=self.timeseries,
                memory=self.births,
                want_births=Rebirths(self.clock, self.ask_for_births).want,
                facts_every_ms=self.facts_every_ms,
                state_every_ms=12 * self.facts_every_ms
                if isinstance(self.clock, VirtualClock)
                else STATE_EVERY_MS,
            ).run()
        finally:
            await state.close()

    def ask_for_births(self, node: str, now: int) -> bool:
        """Send group/node the command to be born again; False when there is no connection."""
        group, _, name = node.partition("/")
        return self.source.tell(f"spBv1.0/{group}/NCMD/{name}", rebirth(now))

    async def rules_at(self, position: int) -> RuleSet:
        """The rule set that held at a journal position, so that the state which was saved there is continued
        by the rules it belongs to; those that hold now where this version cannot use it."""
        held = await self.database.read(lambda records: records.rule_sets.at(position))
        if held is None or held.rule_set == self.in_force.rule_set:
            return self.in_force.rules
        try:
            return await stored(self.database, held.rule_set)
        except TextErrors as error:
            log.error("rules_not_continued", rule_set=held.rule_set, problem=str(error))
            return self.in_force.rules

    async def _respond(self) -> None:
        await Responder(
            journal=self.journal, database=self.database, clock=self.clock, policy=self.policy
        ).run()

    async def _deliver(self) -> None:
        courses = Courses(self.timeseries, self.renderer.texts, lambda: self.renderer.signals)
        await Deliverer(
            self.database,
            self.clock,
            self.channels,
            self.policy,
            self.renderer,
            self.counters,
            courses.write,
        ).run()

    async def _time(self) -> None:
        await Timers(self.database, self.clock, self.policy, self.counters).run()

    async def _follow_up(self) -> None:
        await Afterwards(self.database, self.clock, self.policy).run()

    async def _keep(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """What breaks is said, shown in health until it has run well for a while, and begun again."""
        tries, said, loop = 0, "", asyncio.get_running_loop()
        while True:
            began = loop.time()
            well = loop.call_later(RUNS_WELL_S, self.failures.pop, name, None)
            try:
                await work()
            except TROUBLES as error:
                _stop_where_cancelled(error)
                self.failures[name] = str(error)
                if str(error) != said:  # once for each cause, however often it is tried
                    said = str(error)
                    log.error(
                        "worker_waits", worker=name, problem=said, effect="tried again, nothing is lost"
                    )
            except Exception as error:
                _stop_where_cancelled(error)
                self.failures[name] = f"{type(error).__name__}: {error}"
                log.exception("worker_failed", worker=name, tries=tries + 1)
            finally:
                well.cancel()
            tries = 1 if loop.time() - began > RUNS_WELL_S else tries + 1
            await asyncio.sleep(min(30.0, 0.2 * 2 ** min(tries, 7)) * random.uniform(0.5, 1.0))

    def behind(self) -> int:
        """Journal entries that the rules of this process have still to take; 0 where they run in another."""
        upto = self.counters.assessed_upto
        return self.journal.head() - upto if upto else 0

    # --- what others see ----------------------------------------------------------------------

    @cached_property
    def guides(self) -> tuple[Guide, ...]:
        """How features are used."""
        return load_guides(self.settings.guides.paths)

    def context(self, demo: Demo | None = None, push_note: str | None = None) -> Context:
        """What the pages and the API stand on."""
        made = Context(
            clock=self.clock,
            database=self.database,
            timeseries=self.timeseries,
            journal=self.journal,
            texts=self.texts,
            policy=self.policy,
            signals=self.in_force.rules.catalogue,
            counters=self.counters,
            public_url=self.settings.public_url,
            requests_per_minute=self.settings.web.requests_per_minute,
            topics=load_topics(self.settings.follow_up.topics),
            kind_of=self.directory.by_pattern,
            checks=(self.check_broker, self.check_workers, self.check_timeseries, self.check_room),
            vapid_public_key=self.vapid.public_key,
            push_hosts_note=push_note,
            announce=self.announce,
            reloader=self.reloader,
            in_force=self.in_force,
            state=self.state,
            geography=self.geography,
            guides=self.guides,
            check_webhook=self.check_webhook,
            trusted_proxies=self.settings.web.trusted_proxies,
            sso=self._sso(),
            demo=demo,
        )

        def follow_rules(rules: RuleSet) -> None:
            made.signals = rules.catalogue

        self.in_force.followers.append(follow_rules)
        return made

    def _sso(self) -> OidcProvider | None:
        """Where people sign in who have an account with their company."""
        given = self.settings.sign_in.oidc
        if not given.issuer:
            return None
        secret = given.client_secret.get_secret_value()
        told = Oidc(**given.model_dump() | {"client_secret": secret})
        return OidcProvider(settings=told, now=self.clock.now)

    def check_webhook(self, url: str) -> str | None:
        """Why an endpoint's address may not be sent to."""
        try:
            check_url(url, self.settings.deliver.webhook.allow_hosts)
        except AddressError as error:
            return str(error)
        return None

    async def connected(self) -> None:
        """Return when messages can arrive and displays can be reached."""
        # Both only say how they stand; this is for the start alone.
        while not (self.source.state.connected and self.publisher.connected):  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    async def announce(self) -> None:
        """Carry queued control entries into the journal before the caller goes on."""
        journal = {"journal": self.channels["journal"]}
        await deliver_now(self.database, self.clock, journal, self.policy, self.renderer, self.counters)

    async def check_broker(self) -> tuple[str, bool, str]:
        """Whether messages can arrive."""
        if self.role not in ("all", "ingest"):
            return "broker", True, ""
        return "broker", self.source.state.connected, self.source.state.problem

    async def check_workers(self) -> tuple[str, bool, str]:
        """Whether every part runs."""
        problem = "; ".join(f"{name}: {what}" for name, what in self.failures.items())
        return "parts", not problem, problem

    async def check_room(self) -> tuple[str, bool, str]:
        """Whether the disk has room: without it nothing is acknowledged, and the broker holds messages."""
        folder = self.settings.data_dir
        free = shutil.disk_usage(folder).free
        return "data folder", free >= LEAST_ROOM, f"{folder} has {free // 1000:,} kB left: make room"

    async def check_timeseries(self) -> tuple[str, bool, str]:
        """Whether readings can be stored and read."""
        try:
            return "time series", True, await self.timeseries.check()
        except StoreUnavailableError as error:
            return "time series", False, str(error)


@contextlib.asynccontextmanager
async def opened(
    settings: configuration.Settings, *, role: Role = "all", clock: Clock | None = None
) -> AsyncIterator[Gateway]:
    """Open every part; close them in the opposite order. Raises CannotStartError."""
    clock = clock or SystemClock()
    async with contextlib.AsyncExitStack() as stack:
        folder = make_data_dir(settings)
        stack.enter_context(lock_data_dir(folder, role))
        texts = Texts({language: config.messages(language) for language in LANGUAGES})
        directory = Directory(settings.devices.kinds)
        database = open_database(settings, clock)
        stack.push_async_callback(database.close)
        await database.prepare()
        await directory.load(database)
        await database.read(lambda records: book.look_up_holidays(records, clock.now()))
        in_force, refused = await begin_rules(settings, database, role, clock.now())
        check_kinds(settings.devices.kinds, in_force.rules.catalogue)
        policy = make_policy(settings, in_force.rules)
        policy = dataclasses.replace(policy, calendar_key=calendar_key(settings))
        births = Births()
        decoder = decoding(settings, directory.known, births)
        journal = open_journal(settings, decoder)
        stack.push_async_callback(journal.close)
        await journal.read(2**62, limit=1)
        timeseries = open_timeseries(settings, in_force.rules.catalogue)
        stack.push_async_callback(timeseries.close)
        if settings.timeseries.kind == "embedded" and role in ("all", "ingest"):
            await timeseries.prepare(settings.timeseries.retention_days)
        await carry_on(journal, database, timeseries, clock.now())
        broker, downlink = await open_broker(settings, role, stack)
        counters = Counters()
        source = make_source(settings, broker, counters)
        publisher = MqttClient(downlink, random=random.random)
        vapid = load_vapid(settings)
        channels: dict[str, Channel] = {
            "web_push": WebPushChannel(vapid, loopback=settings.deliver.web_push.loopback),
            "display": DisplayChannel(publisher),
            "journal": JournalChannel(journal, clock),
        }
        channels |= outward_channels(settings, clock, calendar_key(settings))
        for channel in channels.values():
            stack.push_async_callback(channel.close)
        signals = in_force.rules.catalogue
        renderer = Renderer(texts=texts, signals=signals, policy=policy, public_url=settings.public_url)
        calendars = make_calendars(settings)
        stack.push_async_callback(calendars.close)
        state = SqliteRuleState(folder / "state.db")
        stack.push_async_callback(state.close)
        await recall_births(births, settings, state, journal)
        for follower in (decoder.take, policy_follower(policy), renderer.take):
            follower(in_force.rules)
            in_force.followers.append(follower)
        yield Gateway(
            settings=settings,
            role=role,
            clock=clock,
            counters=counters,
            in_force=in_force,
            refused=refused,
            policy=policy,
            texts=texts,
            directory=directory,
            database=database,
            journal=journal,
            timeseries=timeseries,
            broker=downlink,
            renderer=renderer,
            state=state,
            births=births,
            vapid=vapid,
            publisher=publisher,
            channels=channels,
            source=source,
            mail_server=make_mail_server(settings, database, clock, policy),
            calendars=calendars,
        )


async def begin_rules(
    settings: configuration.Settings, database: SqlDatabase, role: Role, now: int
) -> tuple[RulesInForce, tuple[Fault, ...]]:
    """(the rule set to begin with, why the files were refused).

    That is the set that holds by the journal. The files are asked for once the journal runs; only where no
    set ever held do they hold at once. Files with faults change nothing then, or are a CannotStartError."""
    held = await database.read(lambda records: records.rule_sets.at())
    faults: tuple[Fault, ...] = ()
    try:
        sources = read_sources(settings)
        rules = parse(sources)
    except TextErrors as error:
        if held is None:
            raise CannotStartError(f"the rules cannot be used:\n{error}") from error
        faults = error.faults
    if held is not None:
        try:
            if faults or sources.id != held.rule_set:
                rules = await stored(database, held.rule_set)
        except TextErrors as error:
            if faults:
                raise CannotStartError(f"the rules cannot be used:\n{error}") from error
            log.error("rules_not_continued", rule_set=held.rule_set, problem=str(error))
            return RulesInForce(sources.id, rules), ()
        for fault in faults:
            log.error("rules_refused", fault=str(fault), by=BY_START, effect="the rules that held hold on")
        if faults:
            await database.write(lambda r: note_refused(r, "", faults, now, BY_START))
        return RulesInForce(held.rule_set, rules), faults
    if role in ("all", "ingest"):
        await database.write(lambda records: first_rules(records, sources, len(rules.rules), now))
    return RulesInForce(sources.id, rules), ()


def first_rules(records: Records, sources: Sources, rules: int, now: int) -> None:
    """The set that holds from the journal's beginning on."""
    if records.rule_sets.at() is None:
        records.rule_sets.keep(sources)
        records.rule_sets.ask(
            Activation(id=new_id(now), rule_set=sources.id, at=now, by=BY_START, rules=rules, position=0)
        )


async def carry_on(journal: SqliteJournal, database: SqlDatabase, timeseries: TimeSeries, now: int) -> None:
    """See that a journal which was begun anew counts on from where its readers stand."""
    stored = await database.read(lambda records: [records.position(reader) for reader in READERS])
    with contextlib.suppress(StoreUnavailableError):  # record says so, and waits
        stored.append(await timeseries.position() or 0)
    farthest = max(stored)
    if farthest > journal.head() and await journal.begin_after(farthest, now):
        log.warning(
            "journal_begun_anew",
            position=farthest,
            effect="entries that its readers had not taken are gone; what comes now is taken",
        )


UNPLAYED = ("broker", "receive", "display", "directory", "rules", "mail", "busy")
"""Workers that wait for the network or for other workers, so that a played clock need not ask them."""


@contextlib.asynccontextmanager
async def running(
    gateway: Gateway, demo: Demo | None = None, push_note: str | None = None
) -> AsyncIterator[None]:
    """Run all workers and serve the pages until the end of the block."""
    async with serving(gateway, gateway.context(demo, push_note)):
        tasks = []
        for name, work in gateway.workers():
            task = asyncio.create_task(gateway._keep(name, work), name=name)
            if isinstance(gateway.clock, VirtualClock) and name not in UNPLAYED:
                gateway.clock.register(task)
            tasks.append(task)
        try:
            yield
        finally:
            await ended(tasks)


@contextlib.asynccontextmanager
async def serving(gateway: Gateway, context: Context) -> AsyncIterator[None]:
    """Serve pages, API, health and metrics. Raises CannotStartError when the port is taken."""
    if gateway.role not in ("all", "web"):
        async with _listening(gateway, make_ops_app(context)):
            yield
        return
    async with _firmware(gateway, context):
        pages = make_app(context)
        async with _listening(gateway, pages), _warmed(gateway, pages):
            yield


@contextlib.asynccontextmanager
async def _warmed(gateway: Gateway, pages: web.Application) -> AsyncIterator[None]:
    """After the start, when there is time for it, pages are made ready to be quick."""
    work = warm_in_time(
        pages,
        SystemClock(),  # a played time says nothing of what the processor has to do
        used=time.process_time,
        behind=gateway.behind,
    )
    task = asyncio.create_task(work, name="warm")
    try:
        yield
    finally:
        await ended([task])


@contextlib.asynccontextmanager
async def _firmware(gateway: Gateway, context: Context) -> AsyncIterator[None]:
    """Releases and DDI, mounted with the pages; on a port of their own for devices with certificates."""
    settings, store = gateway.settings.firmware, FirmwareStore(gateway.settings.data_dir / "firmware")
    office = Office(store, gateway.clock.now)
    ways = DdiSettings(
        tenant=settings.tenant,
        polling=settings.polling,
        gateway_token=settings.gateway_token.get_secret_value(),
        certificate_header=settings.certificate_header,
        public_url=gateway.settings.public_url,
    )
    context.office = office
    context.firmware = firmware_application(store)
    context.ddi = (ddi_prefix(ways), ddi_application(office, ways))
    told = tuple(settings.tell) if "email" in gateway.policy.channels else ()
    news = OperatorNews(texts=gateway.texts, to=told, public_url=gateway.settings.public_url)
    updates = Updates(FirmwareDesk(office), gateway.database, gateway.clock, gateway.policy, news)
    tasks = [
        asyncio.create_task(office.keep(_firmware_failed), name="firmware"),
        asyncio.create_task(gateway._keep("updates", updates.run), name="updates"),
    ]
    try:
        async with _certified(gateway, office, ways):
            yield
    finally:
        await ended(tasks)
        await office.close()


def _firmware_failed(error: Exception) -> None:
    log.warning("firmware_step_failed", error=str(error))


@contextlib.asynccontextmanager
async def _certified(gateway: Gateway, office: Office, ways: DdiSettings) -> AsyncIterator[None]:
    settings = gateway.settings.firmware
    if not settings.tls_port:
        yield
        return
    ways = dataclasses.replace(ways, public_url="")
    try:
        secure = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=settings.tls_ca_file)
        secure.load_cert_chain(settings.tls_cert_file, settings.tls_key_file)
    except OSError as error:
        raise CannotStartError(
            f"the certificates of firmware.tls_port cannot be used ({error.strerror or error}): see "
            "firmware.tls_ca_file, and whether firmware.tls_key_file belongs to firmware.tls_cert_file"
        ) from error
    secure.verify_mode = ssl.CERT_REQUIRED
    app = web.Application()
    app.add_subapp(ddi_prefix(ways), ddi_application(office, ways))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    try:
        host, port = gateway.settings.web.host, settings.tls_port
        try:
            await web.TCPSite(runner, host, port, ssl_context=secure).start()
        except OSError as error:
            raise CannotStartError(_port_problem(host, port, "firmware.tls_port", error)) from error
        yield
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def _listening(gateway: Gateway, pages: web.Application) -> AsyncIterator[None]:
    runner = web.AppRunner(pages, access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, gateway.settings.web.host, gateway.settings.web.port)
        try:
            await site.start()
        except OSError as error:
            host, port = gateway.settings.web.host, gateway.settings.web.port
            raise CannotStartError(_port_problem(host, port, "web.port", error)) from error
        address = runner.addresses[0]
        gateway.url = f"http://{address[0]}:{address[1]}"
        yield
    finally:
        await runner.cleanup()


def _port_problem(host: str, port: int, setting: str, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{host}:{port} is taken by another program: end it, or set {setting} to a free port"
    why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
    return (
        f"cannot listen on {host}:{port} ({why}): set web.host to an address of this machine, and {setting}"
    )


# --- the command ------------------------------------------------------------------------------


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Ctrl-C comes at the end of the block: libraries written in C swallow an exception that comes while they
    call back, and the command would go on as if nothing had been said."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _stop_where_cancelled(error: Exception) -> None:
    """What breaks in a worker that was told to end is said, and it ends. Raises CancelledError."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        log.warning("worker_ended", worker=task.get_name(), problem=str(error) or type(error).__name__)
        raise asyncio.CancelledError from error


async def ended(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel these tasks, and return when they have ended. Once is not enough: wait_for of Python 3.11, which
    libraries use, too, loses what comes in the moment for which it has waited, and the task goes on."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        over, left = await asyncio.wait(left, timeout=CANCEL_AGAIN_S)
        await asyncio.gather(*over, return_exceptions=True)  # what broke them has been said


async def until_stopped() -> None:
    """Return at SIGINT or SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()


@contextlib.asynccontextmanager
async def reloading(gateway: Gateway) -> AsyncIterator[None]:
    """Read the rules again at every SIGHUP, until the end of the block."""
    asked = asyncio.Event()

    async def reload() -> None:
        while True:
            await asked.wait()
            asked.clear()
            try:
                await gateway.reloader.reload(BY_SIGNAL)
            except RulesRefusedError:
                pass  # logged and kept, fault by fault
            except TROUBLES as error:
                log.error("rules_not_read", problem=str(error), do="send SIGHUP again when it is mended")

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, asked.set)
    task = asyncio.create_task(reload(), name="reload")
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        await ended([task])


async def run_gateway(settings: configuration.Settings, role: Role) -> None:
    """Open, run until stopped, close."""
    async with opened(settings, role=role) as gateway, running(gateway), reloading(gateway):
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        log.info("running", role=role, pages=gateway.url, rules=len(gateway.policy.rules))
        await until_stopped()
        log.info("stopping")


def run_command(arguments: argparse.Namespace) -> int:
    """touchpoint run."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # who sends it this early: the files are about to be read
    with undisturbed():
        settings = configuration.load(arguments.config, os.environ)
        set_up_logging(settings)
    uvloop.run(run_gateway(settings, arguments.role))
    return 0
