"""Each part as its section of the settings says; app puts them together, commands take those they need."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import logging
import os
import random
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from email.utils import parseaddr
from functools import partial
from pathlib import Path
from typing import Any, Literal

import structlog
from aiohttp.http_exceptions import HttpProcessingError

from config import settings as configuration
from gateway.adapters.broker import EmbeddedBroker, EmbeddedBrokerError
from gateway.adapters.calendar_feed import HttpCalendars
from gateway.adapters.clock import SystemClock
from gateway.adapters.codec_choice import Choice
from gateway.adapters.codec_sparkplug import Births
from gateway.adapters.codecs import make_decoder
from gateway.adapters.database import Seal, SqlDatabase
from gateway.adapters.journal import SqliteJournal
from gateway.adapters.mail_in import MailServer
from gateway.adapters.mqtt import FILTERS, Broker, MqttSource
from gateway.adapters.rule_state import SqliteRuleState
from gateway.adapters.timeseries_embedded import EmbeddedTimeSeries
from gateway.channels.addresses import CheckedResolver, is_literal, is_public
from gateway.channels.email import EmailChannel, Relay
from gateway.channels.letter import LetterChannel
from gateway.channels.vapid import Vapid, VapidKeyError
from gateway.channels.webhook import WebhookChannel
from gateway.domain.access import Role as AccessRole
from gateway.domain.access import issue_token
from gateway.domain.counters import Counters
from gateway.domain.errors import CannotStartError
from gateway.domain.feedback import Asking
from gateway.domain.messages import Batch, Decoded
from gateway.domain.moments import DAY_MS, HOUR_MS
from gateway.domain.policy import Policy, RuleBook, Rung
from gateway.domain.slots import public_holidays
from gateway.domain.working_time import WorkingTime
from gateway.flow.assess import DECODER, READ_LIMIT
from gateway.flow.mail import is_ours, receive_mail
from gateway.ports import Channel, Clock, StoreUnavailableError, TimeSeries
from gateway.sources import load_signals, signal_texts
from rules import Catalogue, RuleSet

READERS = ("record", "assess", "respond")
SESSION_FILE = "session.json"
"""In the data folder: that the broker holds a session of ours."""
Role = Literal["all", "ingest", "deliver", "web"]
GC_THRESHOLDS = (500_000, 10, 50)
"""Batches come and go by the thousand messages, and hold no cycles: looking at them more often than this
costs more than decoding them."""

log = structlog.get_logger()


# --- the data folder, and what is in it -----------------------------------------------------------


def make_data_dir(settings: configuration.Settings) -> Path:
    """The data folder, made when it is missing."""
    folder = settings.data_dir
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise CannotStartError(
            f"the data folder {folder} cannot be written ({error.strerror}): "
            "set data_dir to a folder that this user may write"
        ) from error
    return folder


def lock_data_dir(folder: Path, role: Role) -> contextlib.ExitStack:
    """Keep a second gateway with the same part away from the same files, until the stack is closed."""
    held = contextlib.ExitStack()
    for part in {"all": ("ingest", "deliver"), "web": ()}.get(role, (role,)):
        file = held.enter_context((folder / f"{part}.lock").open("w"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            held.close()
            raise CannotStartError(
                f"another gateway works on {folder} ({part}): end it, or set data_dir to another folder"
            ) from error
    return held


def calendar_key(settings: configuration.Settings) -> bytes:
    """What makes the secrets in the addresses of invitations and feeds; made when it is missing."""
    path = settings.data_dir / "calendar.key"
    try:
        if not path.exists():
            made = path.with_name(f".calendar.key-{os.getpid()}")
            with os.fdopen(os.open(made, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as file:
                file.write(secrets.token_bytes(32))
            with contextlib.suppress(FileExistsError):  # two processes at once: the first one's holds
                os.link(made, path)
            made.unlink()
        key = path.read_bytes()
    except OSError as error:
        raise CannotStartError(f"{path} cannot be read or made ({error.strerror})") from error
    if len(key) < 32:
        raise CannotStartError(f"{path} is no key: delete it, and old invitations cannot be answered by mail")
    return key


def load_vapid(settings: configuration.Settings) -> Vapid:
    """The key that our pushes are signed with, made when it is missing. Raises CannotStartError."""
    try:
        return Vapid.load_or_create(settings.data_dir / "vapid.pem", settings.deliver.web_push.vapid_subject)
    except VapidKeyError as error:
        raise CannotStartError(str(error)) from error


# --- stores ---------------------------------------------------------------------------------------


def open_database(settings: configuration.Settings, clock: Clock) -> SqlDatabase:
    """The domain's database."""
    named = settings.database.key_file
    seal = Seal(Path(named) if named else settings.data_dir / "database.key")
    return SqlDatabase(f"sqlite:///{settings.database_path}", now=clock.now, seal=seal)


def open_journal(
    settings: configuration.Settings, decoder: Callable[..., Any] | None = None
) -> SqliteJournal:
    """The journal; without a decoder its batches cannot be decoded, only counted and appended."""
    return SqliteJournal(
        settings.data_dir / "journal.db",
        readers=READERS,
        max_bytes=settings.journal.max_bytes,
        decoder=decoder,
    )


def open_timeseries(settings: configuration.Settings, signals: Catalogue) -> TimeSeries:
    """The time-series store that the settings name."""
    series = settings.timeseries
    if series.kind == "embedded":
        return EmbeddedTimeSeries(settings.data_dir / "timeseries.db")
    from gateway.adapters.timeseries_influx import InfluxTimeSeries

    return InfluxTimeSeries(
        url=series.url,
        org=series.org,
        bucket=series.bucket,
        token=series.token.get_secret_value(),
        gzip=series.gzip,
    )


@dataclass(kw_only=True)
class Stores:
    """The stores that commands work on."""

    settings: configuration.Settings
    database: SqlDatabase
    journal: SqliteJournal

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(cls, settings: configuration.Settings) -> AsyncIterator[Stores]:
        """Open for one command; another process may be running on the same files."""
        make_data_dir(settings)
        clock = SystemClock()
        async with contextlib.AsyncExitStack() as stack:
            database = open_database(settings, clock)
            stack.push_async_callback(database.close)
            await database.prepare()
            journal = open_journal(settings)
            stack.push_async_callback(journal.close)
            yield cls(settings=settings, database=database, journal=journal)


async def prepare(settings: configuration.Settings) -> list[str]:
    """Create what the configured stores need, keys and the first operator; gives a line for each.

    Repeating it changes nothing.
    """
    folder = make_data_dir(settings)
    lines = [f"data folder {folder}: ready"]
    async with Stores.opened(settings) as stores:
        lines.append(f"database {settings.database_path}: schema is up to date")
        await stores.journal.open()
        lines.append(f"journal {folder / 'journal.db'}: ready")
        load_vapid(settings)
        calendar_key(settings)
        lines.append(f"keys in {folder}: ready")
        store = open_timeseries(settings, load_signals(signal_texts(settings.signals.paths)))
        try:
            lines.append(f"time series: {await store.prepare(settings.timeseries.retention_days)}")
        except StoreUnavailableError as error:
            raise CannotStartError(str(error)) from error
        finally:
            await store.close()
        lines.append(await _first_operator(stores))
    return lines


async def _first_operator(stores: Stores) -> str:
    tokens = await stores.database.read(lambda r: r.tokens.page())
    now = SystemClock().now()
    if any(t.role is AccessRole.OPERATOR and t.revoked is None and t.expires > now for t in tokens):
        return "operator: there is one"
    token, secret = issue_token(
        AccessRole.OPERATOR, None, ttl_ms=90 * 86_400_000, now=now, random=secrets.token_bytes
    )
    await stores.database.write(lambda r: r.tokens.add(token))
    return f"operator: signs in with {secret} (shown once, valid for 90 days)"


# --- rules and policy -----------------------------------------------------------------------------


def all_aliases(signals: Catalogue) -> dict[str, str]:
    """VSS path → signal name, over all kinds."""
    return {path: name for kind in signals.kinds for path, name in signals.aliases(kind).items()}


def make_policy(settings: configuration.Settings, rules: RuleSet) -> Policy:
    """The operator's settings and the rules' own wishes."""
    return Policy(
        rules=RuleBook(rules),
        quiet_from=settings.moments.quiet_from,
        quiet_to=settings.moments.quiet_to,
        drive_settle_ms=settings.moments.driving_hold_s * 1000,
        weekly_budget=settings.moments.weekly_budget,
        marketing_budget=settings.moments.marketing_budget,
        max_age_ms=settings.moments.max_age_s * 1000,
        hold_out_percent=settings.moments.hold_out_percent,
        pace_answers=settings.moments.pace_answers,
        pace_declined_percent=settings.moments.pace_declined_percent,
        purposes=dict(settings.consents.purposes),
        proposals=settings.booking.proposals,
        propose_days=settings.booking.propose_days,
        hold_ms=settings.booking.hold_s * 1000,
        counter_ms=settings.booking.counter_h * 3_600_000,
        remind_before_ms=settings.booking.remind_h * 3_600_000,
        extra_answer_ms=settings.booking.extra_work_min * 60_000,
        channels=usable_channels(settings),
        ladder=tuple(
            Rung(channel=channel, after_ms=after, severity=severity)
            for channel, after, severity in settings.deliver.steps()
        ),
        retry_schedule_s=tuple(settings.deliver.retry_s),
        retry_schedules_s={name: tuple(waits) for name, waits in settings.deliver.retries.items()},
        lease_ms=settings.deliver.lease_s * 1000,
        reply_address=settings.mail.reply_to,
        bounce_domain=settings.deliver.email.bounce_domain,
        sender_address=parseaddr(settings.deliver.email.sender)[1],
        calendar_domain=settings.mail.reply_to.rpartition("@")[2] or "touchpoint",
        mail_kept_most=settings.mail.kept_most,
        mail_kept_bytes=settings.mail.kept_max_bytes,
        busy_every_ms=settings.calendars.busy_every_s * 1000,
        **afterwards(settings.follow_up),
    )


def afterwards(wanted: configuration.FollowUp) -> dict[str, Any]:
    """What the settings say about following up, as the policy has it. Raises CannotStartError for holidays
    that the calendar does not know: the first case would find out."""
    hours = wanted.working_time
    if hours.holidays:
        country, _, region = hours.holidays.partition("-")
        try:
            public_holidays(country, region or None, 2026)
        except ValueError as error:
            raise CannotStartError(f"follow_up.working_time.holidays: {error}") from error
    return {
        "ask_after_ms": wanted.ask_after_h * HOUR_MS,
        "helped_ms": wanted.helped_days * DAY_MS,
        "effect_ms": wanted.effect_days * DAY_MS,
        "responsible": wanted.responsible,
        "deadline_hours": wanted.deadline_h.model_dump(),
        "working_time": WorkingTime(
            begin=hours.begin,
            end=hours.end,
            days=tuple(hours.days),
            zone=hours.time_zone,
            country=hours.holidays,
        ),
        "asking": Asking(
            question=wanted.question,
            give_up_ms=wanted.give_up_days * DAY_MS,
            apart_ms=wanted.apart_days * DAY_MS,
            low={"csat": wanted.csat_low, "ces": wanted.ces_low, "nps": wanted.nps_low},
            nps_first_ms=wanted.nps_first_days * DAY_MS,
            nps_every_ms=wanted.nps_every_days * DAY_MS,
            nps_after=wanted.nps_after_touchpoints,
        ),
    }


def usable_channels(settings: configuration.Settings) -> tuple[str, ...]:
    """The channels in use; e-mail only where a mail server is named."""
    mail = bool(settings.deliver.email.url.get_secret_value())
    return tuple(channel for channel in settings.deliver.channels if channel != "email" or mail)


def policy_follower(policy: Policy) -> Callable[[RuleSet], None]:
    """Keeps a policy's rules those in force."""

    def take(rules: RuleSet) -> None:
        if isinstance(policy.rules, RuleBook):
            policy.rules.take(rules)

    return take


class Decoding:
    """The decoder of all forms, with the signals in force."""

    def __init__(
        self,
        claimed: Callable[[str], bool] | None,
        *,
        ahead_ms: int,
        formats: Mapping[str, str],
        births: Births,
    ) -> None:
        self._make = partial(make_decoder, claimed=claimed, ahead_ms=ahead_ms)
        self._choose = partial(Choice, formats, births=births, claimed=claimed, ahead_ms=ahead_ms)
        self._formats = formats
        self._aliases: dict[str, str] = {}
        self._decode = self._make({})

    def __call__(self, batch: Batch) -> Decoded:
        return self._decode(batch)

    def take(self, rules: RuleSet) -> None:
        """What is decoded from now on is named by these signals."""
        aliases = all_aliases(rules.catalogue)
        if self._formats:
            self._decode = self._make(aliases, others=self._choose(rules.catalogue))
        elif aliases != self._aliases:
            self._decode = self._make(aliases)
        self._aliases = aliases


def decoding(settings: configuration.Settings, known: Callable[[str], bool], births: Births) -> Decoding:
    """The decoder that the settings ask for; `known` tells devices that somebody has registered."""
    return Decoding(
        known if settings.devices.unclaimed == "quarantine" else None,
        ahead_ms=settings.devices.clock_ahead_s * 1000,
        formats=settings.codecs,
        births=births,
    )


async def recall_births(
    births: Births, settings: configuration.Settings, state: SqliteRuleState, journal: SqliteJournal
) -> None:
    """Know every birth up to the journal's head before anybody reads: what is saved with the rules' state,
    and what the journal holds behind that. Readers then learn of others as they come to them."""
    if "sparkplug" not in settings.codecs.values():
        return
    position, saved = await state.load_one(DECODER)
    for name, raw in saved:
        if name.startswith(DECODER):
            births.restore(name, raw)
    while batches := await journal.read(position, limit=READ_LIMIT):
        for batch in batches:
            births.look_through(batch)
        position = batches[-1].last


# --- the outside world ----------------------------------------------------------------------------


async def open_broker(
    settings: configuration.Settings, role: Role, stack: contextlib.AsyncExitStack
) -> tuple[Broker, Broker]:
    """(for ingest, for everything else). embedded: starts a broker that ends with the stack, and that only
    this process knows; the role web needs none."""
    mqtt = settings.mqtt
    down = f"{mqtt.client_id}-down"
    if mqtt.embedded and role in ("ingest", "deliver"):
        raise CannotStartError(
            f"mqtt.url is embedded:, a broker inside one process, which other roles than {role} could not "
            "reach: set mqtt.url to a broker, or run all parts in one process (--role all)"
        )
    if mqtt.embedded and role == "all":
        try:
            embedded = EmbeddedBroker(random=lambda n: secrets.token_hex(n // 2))
            await stack.enter_async_context(embedded)
        except EmbeddedBrokerError as error:
            raise CannotStartError(str(error)) from error
        one = Broker(
            url=embedded.url,
            client_id=mqtt.client_id,
            username=embedded.username,
            password=embedded.password,
        )
        return one, dataclasses.replace(one, url=embedded.devices_url, client_id=down, mqtt5=False)
    one = named_broker(settings)
    return one, dataclasses.replace(one, client_id=down)


def named_broker(settings: configuration.Settings) -> Broker:
    """The broker that the settings name."""
    mqtt = settings.mqtt
    return Broker(
        url=mqtt.url,
        client_id=mqtt.client_id,
        username=mqtt.username or None,
        password=mqtt.password.get_secret_value() or None,
        ca_file=Path(mqtt.ca_file) if mqtt.ca_file else None,
        cert_file=Path(mqtt.cert_file) if mqtt.cert_file else None,
        key_file=Path(mqtt.key_file) if mqtt.key_file else None,
    )


def make_source(settings: configuration.Settings, broker: Broker, counters: Counters) -> MqttSource:
    """Where messages come from."""
    return MqttSource(
        broker,
        counters=counters,
        random=random.random,
        receive_maximum=settings.mqtt.receive_maximum,
        batch_messages=settings.journal.batch_messages,
        batch_delay_ms=settings.journal.batch_delay_ms,
        filters=(*FILTERS, *settings.codecs),
        session_file=None if settings.mqtt.embedded else settings.data_dir / SESSION_FILE,
    )


def make_mail_server(
    settings: configuration.Settings, database: SqlDatabase, clock: Clock, policy: Policy
) -> MailServer | None:
    """Where mail comes in."""
    if settings.mail.address is None:
        return None
    host, port = settings.mail.address
    return MailServer(
        host=host,
        port=port,
        take=lambda raw, recipients: receive_mail(database, clock, policy, raw, recipients),
        ours=lambda address: is_ours(address, policy),
        max_bytes=settings.mail.max_bytes,
    )


def make_calendars(settings: configuration.Settings) -> HttpCalendars:
    """What fetches workshops' own calendars, from public addresses alone."""
    allowed = settings.calendars.allow_hosts
    return HttpCalendars(
        resolver=CheckedResolver(allowed),
        may_reach=lambda host: not is_literal(host) or is_public(host),
        allowed=allowed,
    )


def outward_channels(settings: configuration.Settings, clock: Clock, key: bytes) -> dict[str, Channel]:
    """Mail, where a server is named, webhooks and letters; `key` marks return paths."""
    webhook = settings.deliver.webhook
    made: dict[str, Channel] = {
        "webhook": WebhookChannel(allow_hosts=webhook.allow_hosts, timeout_s=webhook.timeout_s),
        "letter": LetterChannel(settings.data_dir / "letters", clock.now),
    }
    mail = mail_channel(settings, clock, key)
    return made | ({"email": mail} if mail is not None else {})


def mail_channel(settings: configuration.Settings, clock: Clock, key: bytes = b"") -> EmailChannel | None:
    """The mail server's; None where none is named."""
    mail = settings.deliver.email
    url = mail.url.get_secret_value()
    if not url:
        return None
    return EmailChannel(
        Relay.of(url, mail.starttls),
        sender=mail.sender,
        bounce_domain=mail.bounce_domain,
        bounce_key=key,
        now=clock.now,
    )


# --- what is said ---------------------------------------------------------------------------------


def set_up_logging(settings: configuration.Settings) -> None:
    """One line an event, on standard error: for people or as JSON."""
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if settings.log.format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(settings.log.level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    libraries = logging.getLogger()
    if not any(isinstance(handler, OneLine) for handler in libraries.handlers):
        libraries.addHandler(OneLine(logging.WARNING))


class OneLine(logging.Handler):
    """What libraries say, as the gateway says things: else a trace of theirs lies between lines of JSON.

    What a stranger sent that is no HTTP is no fault of ours and not worth a trace: anybody could fill the log
    with those.
    """

    def emit(self, record: logging.LogRecord) -> None:
        said, error = structlog.get_logger(), record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError) and error.code < 500:
            said.info("request_refused", problem=" ".join(str(error.message).split()))
            return
        said.log(record.levelno, "library", logger=record.name, said=record.getMessage(), exc_info=error)
