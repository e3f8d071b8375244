"""Settings: default.toml, overlaid by a file, then by the environment; every fault is reported at once.

The models hold no defaults, because default.toml does: a key missing there, or one too many, is a fault like
any other.

SettingsError   one or more settings are wrong; its text has one line per fault
"""

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import BaseModel, ConfigDict, Field, SecretStr, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from config import data_path

PREFIX = "TOUCHPOINT_"
RESERVED = ("TEST_", "SHARED")
"""Names after the prefix that are not settings: what the tests read."""


class SettingsError(Exception):
    """One or more settings are wrong."""

    def __init__(self, faults: "Iterable[Fault]") -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One wrong setting."""

    key: str
    """dotted, as in the documentation: mqtt.url"""
    value: str | None
    """as given, secrets masked; None when none was given"""
    source: str
    """where it came from"""
    problem: str
    """what is wrong, or what is allowed"""

    def __str__(self) -> str:
        given = self.key if self.value is None else f"{self.key} = {self.value}"
        return f"{given} ({self.source}): {self.problem}"


# --- what is allowed --------------------------------------------------------------------------


@dataclass(frozen=True)
class Allowed:
    """What a setting may be, in words; stands in a field's annotation."""

    words: str


_HOST = r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?"

Text = Annotated[str, Allowed("a text")]
Flag = Annotated[bool, Allowed("true or false")]
Secret = Annotated[SecretStr, Allowed("a text; or name a file that holds it, under the same key with _file")]
File = Annotated[str, Allowed("the path of a file that can be read, or empty")]
Folder = Annotated[Path, Allowed("the path of a folder")]
PathList = Annotated[
    list[str], Allowed("a list of files and folders that exist, @default for the shipped set")
]
LocalTime = Annotated[
    str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$"), Allowed("a local time from 00:00 to 23:59")
]
WebUrl = Annotated[
    str, Field(pattern=rf"^(https?://{_HOST}(/\S*)?)?$"), Allowed("http(s)://host[:port], or empty")
]
BrokerUrl = Annotated[
    str,
    Field(pattern=rf"^(embedded:|mqtts?://{_HOST}/?)$"),
    Allowed("mqtt://host[:port], mqtts://host[:port] or embedded:, without user name and password"),
]
ClientId = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9._-]{1,64}$"),
    Allowed("1 to 64 letters, digits, dots, dashes, underscores"),
]
DatabaseUrl = Annotated[str, Field(pattern=r"^(sqlite:///.+)?$"), Allowed("sqlite:///path, or empty")]
Contact = Annotated[
    str, Field(pattern=r"^(mailto:[^@\s]+@[^@\s]+|https://\S+)$"), Allowed("mailto:address or https://…")
]
MailAddresses = Annotated[
    list[Annotated[str, Field(pattern=r"^[^@\s<>]+@[^@\s<>]+$")]], Allowed("a list of mail addresses")
]
CodecName = Literal["senml_json", "senml_cbor", "sparkplug"]
ChannelName = Literal["web_push", "display", "email", "letter", "webhook"]
Severity = ("advice", "warning", "critical")
AFTER = re.compile(r"([0-9]{1,6})([smhd])")
AFTER_UNIT_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
Ladder = Annotated[
    list[dict[str, str]],
    Allowed('a list of steps such as {channel = "email", after = "24h"}, with severity where one is meant'),
]
Schedules = Annotated[
    dict[str, list[Annotated[int, Field(ge=0, le=604_800)]]],
    Allowed("a table of channel = list of seconds, each from 0 to 604800"),
]


def _words(annotation: Any) -> str:
    """What is allowed, from the annotation alone."""
    if get_origin(annotation) is Literal:
        *most, last = (str(choice) for choice in get_args(annotation))
        return f"{', '.join(most)} or {last}" if most else last
    if get_origin(annotation) is Annotated:
        for extra in annotation.__metadata__:
            if isinstance(extra, Allowed):
                return extra.words
        return f"a whole number {_bounds(annotation.__metadata__)}"
    if get_origin(annotation) is list:
        return f"a list of {_words(get_args(annotation)[0])}"
    if get_origin(annotation) is dict:
        return f"a table of pattern = {_words(get_args(annotation)[1])}"
    return "a text"


def _bounds(metadata: Iterable[Any]) -> str:
    limits = {
        type(limit).__name__: getattr(limit, type(limit).__name__.lower())
        for extra in metadata
        if isinstance(extra, FieldInfo)
        for limit in extra.metadata
    }
    return f"from {limits['Ge']} to {limits['Le']}"


# --- sections ---------------------------------------------------------------------------------


class Section(BaseModel):
    """A part of the settings, handed to the part of the gateway that it is for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """(key, problem) for values that contradict one another or name what is not there."""
        yield from ()


class Mqtt(Section):
    """The broker that ingest reads from."""

    url: BrokerUrl
    username: Text
    password: Secret
    ca_file: File
    cert_file: File
    key_file: File
    client_id: ClientId
    receive_maximum: Annotated[int, Field(ge=1, le=65_535)]

    @property
    def embedded(self) -> bool:
        """We are to start the broker ourselves."""
        return self.url == "embedded:"

    @property
    def tls(self) -> bool:
        return self.url.startswith("mqtts:")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        for key in ("ca_file", "cert_file", "key_file"):
            name = getattr(self, key)
            if name and not Path(name).is_file():
                yield key, "no such file"
            if name and not self.tls:
                yield key, "certificates need mqtt.url = mqtts://…"
        if bool(self.cert_file) != bool(self.key_file):
            yield ("key_file" if self.cert_file else "cert_file"), "cert_file and key_file go together"
        if self.embedded and self.username:
            yield "username", "the embedded broker makes its own user name and password; leave this empty"
        if not _port_possible(self.url):
            yield "url", "a port is a whole number from 1 to 65535"


def _port_possible(url: str) -> bool:
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


class Journal(Section):
    """The spine's size and rhythm."""

    max_bytes: Annotated[int, Field(ge=1_048_576, le=2**50)]
    batch_messages: Annotated[int, Field(ge=1, le=20_000)]
    batch_delay_ms: Annotated[int, Field(ge=0, le=1_000)]


class Database(Section):
    """Where the domain lives."""

    url: DatabaseUrl
    key_file: str


class TimeSeries(Section):
    """Where readings live."""

    kind: Literal["embedded", "influxdb"]
    url: WebUrl
    org: Text
    bucket: Text
    token: Secret
    gzip: Flag
    retention_days: Annotated[int, Field(ge=0, le=36_500)]

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.kind == "influxdb":
            for key in ("url", "org", "bucket"):
                if not getattr(self, key):
                    yield key, "needed with timeseries.kind = influxdb"
            if not self.token.get_secret_value():
                yield "token", "needed with timeseries.kind = influxdb"


class Files(Section):
    """Files and folders to load, in this order."""

    paths: PathList

    def conflicts(self) -> Iterator[tuple[str, str]]:
        missing = [name for name in self.paths if name != "@default" and not Path(name).exists()]
        if missing:
            yield "paths", f"not there: {', '.join(missing)}"


class Rules(Files):
    """The rules, and what they look at."""

    lateness_s: Annotated[int, Field(ge=0, le=31_536_000)]


class Devices(Section):
    """Devices that nobody registered, and how wrong a device's clock may be."""

    unclaimed: Literal["record", "quarantine"]
    kinds: dict[str, str]
    clock_ahead_s: Annotated[int, Field(ge=0, le=604_800)]


class Web(Section):
    """Where pages, API, health and metrics are served."""

    host: Annotated[str, Field(min_length=1), Allowed("an address of this machine, 0.0.0.0 for all")]
    port: Annotated[int, Field(ge=0, le=65_535)]
    public_url: WebUrl
    trusted_proxies: Annotated[list[str], Allowed("a list of addresses and networks: 10.0.0.5, 10.1.0.0/16")]
    requests_per_minute: Annotated[int, Field(ge=0, le=10_000_000)]

    def conflicts(self) -> Iterator[tuple[str, str]]:
        for name in self.trusted_proxies:
            try:
                ip_network(name)
            except ValueError as error:
                yield "trusted_proxies", f"{name} is no address or network: {error}"


class Oidc(Section):
    """Signing in at an OpenID Connect provider."""

    issuer: WebUrl
    client_id: Text
    client_secret: Secret
    scopes: Text
    label: Text
    role_claim: Text
    roles: Annotated[
        dict[str, Literal["owner", "workshop", "workshop_staff", "operator", "operator_staff"]],
        Allowed("a table of claim value = owner, workshop, workshop_staff, operator or operator_staff"),
    ]
    subject_claim: Text
    name_claim: Text

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if not self.issuer:
            return
        host = urlsplit(self.issuer).hostname or ""
        if self.issuer.startswith("http:") and host not in ("localhost", "127.0.0.1", "::1"):
            yield "issuer", "https://…; http:// only on this machine"
        for key in ("client_id", "label", "role_claim", "roles"):
            if not getattr(self, key):
                yield key, "needed with sign_in.oidc.issuer"
        if "openid" not in self.scopes.split():
            yield "scopes", "openid is among them, or there is no ID token"
        if {"owner", "workshop", "workshop_staff"} & set(self.roles.values()) and not self.subject_claim:
            yield "subject_claim", "needed to know which owner or workshop"


class SignIn(Section):
    """How people sign in."""

    oidc: Oidc


class Firmware(Section):
    """How devices fetch updates (DDI)."""

    tenant: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$"), Allowed("letters, digits, _ and -")]
    polling: Annotated[
        str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]$"), Allowed("HH:MM:SS, below 24 hours")
    ]
    gateway_token: Secret
    certificate_header: str
    tell: MailAddresses
    tls_port: Annotated[int, Field(ge=0, le=65_535)]
    tls_cert_file: str
    tls_key_file: str
    tls_ca_file: str

    def conflicts(self) -> Iterator[tuple[str, str]]:
        files = {name: getattr(self, name) for name in ("tls_cert_file", "tls_key_file", "tls_ca_file")}
        for name, path in files.items():
            if self.tls_port and not Path(path).is_file():
                yield name, "not there; firmware.tls_port needs it"


class WebPush(Section):
    """The web_push channel."""

    vapid_subject: Contact
    loopback: Flag


class Email(Section):
    """The email channel."""

    url: Secret
    starttls: Literal["auto", "require", "never"]
    sender: Annotated[str, Field(pattern=r"^[^@\r\n]*[^@\s<>]+@[^@\s<>]+>?$"), Allowed("Name <user@host>")]
    bounce_domain: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]*$"), Allowed("a domain, or empty")]

    def conflicts(self) -> Iterator[tuple[str, str]]:
        address = self.url.get_secret_value()
        if address and not (re.match(r"^smtps?://\S+$", address) and _port_possible(address)):
            yield "url", "allowed is smtp://[user:password@]host[:port] or smtps://…, or empty"
        elif address.startswith("smtps:") and self.starttls == "require":
            yield "starttls", "smtps:// is encrypted from the first byte: leave starttls at auto"


class Webhook(Section):
    """The webhook channel."""

    allow_hosts: Annotated[list[str], Allowed("a list of host names")]
    timeout_s: Annotated[int, Field(ge=1, le=60)]


class Deliver(Section):
    """How what leaves the house is sent."""

    channels: list[ChannelName]
    ladder: Ladder
    retries: Schedules
    retry_s: Annotated[
        list[Annotated[int, Field(ge=0, le=604_800)]], Allowed("a list of seconds, each from 0 to 604800")
    ]
    lease_s: Annotated[int, Field(ge=1, le=3_600)]
    web_push: WebPush
    email: Email
    webhook: Webhook

    def steps(self) -> Iterator[tuple[str, int, str | None]]:
        """(channel, milliseconds after it was sent, severity or None) of the ladder."""
        for step in self.ladder:
            after = AFTER.fullmatch(step.get("after", "0s"))
            if after is not None:
                yield step["channel"], int(after[1]) * AFTER_UNIT_MS[after[2]], step.get("severity")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        for step in self.ladder:
            if step.get("channel") not in get_args(ChannelName):
                yield "ladder", f"channel is one of {', '.join(get_args(ChannelName))}"
            elif set(step) - {"channel", "after", "severity"}:
                yield "ladder", "a step has channel, after and severity"
            elif not AFTER.fullmatch(step.get("after", "0s")):
                yield "ladder", "after is a number with s, m, h or d: 24h"
            elif step.get("severity", "advice") not in Severity:
                yield "ladder", f"severity is one of {', '.join(Severity)}"
        for channel in self.retries:
            if channel not in (*get_args(ChannelName), "journal"):
                yield "retries", f"{channel} is no channel"


class Moments(Section):
    """When an owner may be contacted."""

    quiet_from: LocalTime
    quiet_to: LocalTime
    driving_hold_s: Annotated[int, Field(ge=0, le=86_400)]
    weekly_budget: Annotated[int, Field(ge=0, le=100)]
    marketing_budget: Annotated[int, Field(ge=0, le=100)]
    max_age_s: Annotated[int, Field(ge=60)]
    hold_out_percent: Annotated[float, Field(ge=0, le=50)]
    pace_answers: Annotated[int, Field(ge=5, le=10_000)]
    pace_declined_percent: Annotated[int, Field(ge=1, le=100)]


class Booking(Section):
    """How long times are kept, and what is waited for."""

    proposals: Annotated[int, Field(ge=1, le=3)]
    propose_days: Annotated[int, Field(ge=1, le=365)]
    hold_s: Annotated[int, Field(ge=60, le=86_400)]
    counter_h: Annotated[int, Field(ge=1, le=336)]
    remind_h: Annotated[int, Field(ge=1, le=168)]
    extra_work_min: Annotated[int, Field(ge=5, le=10_080)]


class MailIn(Section):
    """Mail that comes in: answers to invitations, and what could not be delivered."""

    listen: Annotated[
        str,
        Field(pattern=r"^((\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5})?$"),
        Allowed("host:port, or empty"),
    ]
    reply_to: Annotated[
        str, Field(pattern=r"^([A-Za-z0-9._-]+@[A-Za-z0-9.-]+)?$"), Allowed("an address without +, or empty")
    ]
    max_bytes: Annotated[int, Field(ge=16_384, le=33_554_432)]
    kept_most: Annotated[int, Field(ge=10, le=1_000_000)]
    kept_max_bytes: Annotated[int, Field(ge=1_048_576, le=2**40)]

    @property
    def address(self) -> tuple[str, int] | None:
        """(host, port) to listen on; None for nowhere."""
        host, _, port = self.listen.rpartition(":")
        return (host.strip("[]"), int(port)) if host else None

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.address is not None and self.address[1] > 65_535:
            yield "listen", "a port is a whole number up to 65535"


class Calendars(Section):
    """Workshops' own calendars."""

    busy_every_s: Annotated[int, Field(ge=60, le=86_400)]
    allow_hosts: Annotated[list[str], Allowed("a list of host names")]


class WorkingTime(Section):
    """When the operator's people work."""

    begin: LocalTime
    end: LocalTime
    days: Annotated[
        list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]], Allowed("a list of mon to sun")
    ]
    time_zone: Annotated[str, Field(min_length=1), Allowed("an IANA time zone such as Europe/Berlin")]
    holidays: Annotated[
        str,
        Field(pattern=r"^([A-Z]{2}(-[A-Z0-9]{1,3})?)?$"),
        Allowed("a country such as DE, with its region DE-HH, or empty"),
    ]

    def conflicts(self) -> Iterator[tuple[str, str]]:
        try:
            ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            near = difflib.get_close_matches(self.time_zone, available_timezones(), n=1)
            yield "time_zone", "is no IANA time zone" + (f", did you mean {near[0]}?" if near else "")
        if self.begin >= self.end:
            yield "end", f"is not after begin ({self.begin})"
        if not self.days:
            yield "days", "name at least one day"


Hours = Annotated[int, Field(ge=1, le=1_000)]


class Deadlines(Section):
    """Working hours until a customer hears from somebody, by kind of case."""

    complaint: Hours
    low_score: Hours
    call_me: Hours
    update_failed: Hours


class FollowUp(Section):
    """What is asked after a job, and who looks after what did not go well."""

    responsible: Annotated[str, Field(min_length=1), Allowed("an account or a team")]
    topics: Annotated[str, Field(min_length=1), Allowed("@default, or a file")]
    question: Literal["alternate", "csat", "ces"]
    ask_after_h: Annotated[int, Field(ge=0, le=720)]
    give_up_days: Annotated[int, Field(ge=0, le=90)]
    apart_days: Annotated[int, Field(ge=0, le=365)]
    csat_low: Annotated[int, Field(ge=0, le=5)]
    ces_low: Annotated[int, Field(ge=0, le=7)]
    nps_low: Annotated[int, Field(ge=-1, le=10)]
    nps_first_days: Annotated[int, Field(ge=0, le=3_650)]
    nps_every_days: Annotated[int, Field(ge=0, le=3_650)]
    nps_after_touchpoints: Annotated[int, Field(ge=0, le=1_000)]
    helped_days: Annotated[int, Field(ge=1, le=365)]
    effect_days: Annotated[int, Field(ge=1, le=365)]
    working_time: WorkingTime
    deadline_h: Deadlines


class Consents(Section):
    """What owners are asked to agree to."""

    purposes: dict[str, str]


class Log(Section):
    """What is logged, and how."""

    format: Literal["console", "json"]
    level: Literal["debug", "info", "warning", "error"]


class Settings(Section):
    """All of it."""

    data_dir: Folder
    mqtt: Mqtt
    journal: Journal
    database: Database
    timeseries: TimeSeries
    rules: Rules
    signals: Files
    guides: Files
    codecs: dict[str, CodecName]
    devices: Devices
    web: Web
    sign_in: SignIn
    firmware: Firmware
    deliver: Deliver
    moments: Moments
    booking: Booking
    consents: Consents
    mail: MailIn
    calendars: Calendars
    follow_up: FollowUp
    log: Log

    @property
    def database_path(self) -> Path:
        """The domain's file: as set, else domain.db in data_dir."""
        return Path(self.database.url.removeprefix("sqlite:///") or self.data_dir / "domain.db")

    @property
    def public_url(self) -> str:
        """Address for links, without a slash at its end."""
        host = "localhost" if self.web.host in ("0.0.0.0", "::") else self.web.host
        host = f"[{host}]" if ":" in host else host
        return (self.web.public_url or f"http://{host}:{self.web.port}").rstrip("/")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.data_dir.exists() and not self.data_dir.is_dir():
            yield "data_dir", "is a file, and has to be a folder"
        if self.mqtt.embedded and self.web.public_url.startswith("https://"):
            yield "mqtt.url", "the embedded broker is not for production: name a broker, mqtts://host"
        for pattern, form in self.codecs.items():
            fault = filter_fault(pattern, form)
            if fault:
                yield "codecs", f"{pattern}: {fault}"


def filter_fault(pattern: str, form: str) -> str:
    """Why a topic filter (MQTT 5, section 4.7.1) cannot stand for a form; empty when it can."""
    levels = pattern.split("/")
    if not pattern or len(pattern) > 1_000 or not pattern.isprintable():
        return "is no topic filter"
    if any(len(level) > 1 and ("+" in level or "#" in level) for level in levels) or "#" in levels[:-1]:
        return "is no topic filter: + and # are whole levels, # the last one"
    if form == "sparkplug":
        return "" if levels[0] == "spBv1.0" else "Sparkplug's topics begin with spBv1.0"
    if levels[0] in ("+", "#", "touchpoint") or pattern.startswith("$"):
        return "reaches topics that are not its own; begin it with a name, other than touchpoint"
    if not {"+", "#"} & set(levels):
        return "names no device: the level of its first wildcard does"
    return ""


# --- loading ----------------------------------------------------------------------------------

Key = tuple[str, ...]


@dataclass(frozen=True)
class Given:
    """A value and where it came from; `text` when it came as one and may stand for another type."""

    value: Any
    source: str
    text: bool = False


def leaves(model: type[BaseModel] = Settings, prefix: Key = ()) -> Iterator[tuple[Key, Any]]:
    """Every single setting with its annotation: (("mqtt", "url"), …)."""
    for name, annotation in get_type_hints(model, include_extras=True).items():
        if name == "model_config":
            continue
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from leaves(annotation, (*prefix, name))
        else:
            yield (*prefix, name), annotation


_LEAVES: Mapping[Key, Any] = dict(leaves())
_SECTIONS = {key[:length] for key in _LEAVES for length in range(1, len(key))}
_SECRETS = {key for key, annotation in _LEAVES.items() if annotation is Secret}
_NAMES = {".".join(key): key for key in _LEAVES}


def load(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """The settings: shipped defaults, the file if one is named, the environment.

    Raises SettingsError with every fault found: unknown keys, values that are not allowed, files that are
    not there, values that contradict one another.
    """
    faults: list[Fault] = []
    given: dict[Key, Given] = {}
    for file in [data_path("default.toml"), *([path] if path else [])]:
        given |= _from_file(file, faults)
    given |= _from_environment(environ, faults)
    values = _read_all(given, faults)
    settings = _build(values, given, faults)
    if faults or settings is None:
        raise SettingsError(faults)
    return settings


def _from_file(path: Path, faults: list[Fault]) -> dict[Key, Given]:
    source = f"file {path}"
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        faults.append(
            Fault(key="--config", value=str(path), source="command line", problem=error.strerror or "?")
        )
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        faults.append(
            Fault(key="--config", value=str(path), source="command line", problem=f"is not TOML: {error}")
        )
        return {}
    return _resolve_secrets({key: Given(value, source) for key, value in _flat(tables)}, faults)


def _flat(table: Mapping[str, Any], prefix: Key = ()) -> Iterator[tuple[Key, Any]]:
    for name, value in table.items():
        key = (*prefix, name)
        if isinstance(value, dict) and key in _SECTIONS:
            yield from _flat(value, key)
        else:
            yield key, value


def _from_environment(environ: Mapping[str, str], faults: list[Fault]) -> dict[Key, Given]:
    given = {}
    for name, value in sorted(environ.items()):
        rest = name.removeprefix(PREFIX)
        if rest == name or rest.startswith(RESERVED):
            continue
        given[tuple(rest.lower().split("__"))] = Given(value, f"environment {name}", text=True)
    return _resolve_secrets(given, faults)


def _resolve_secrets(given: dict[Key, Given], faults: list[Fault]) -> dict[Key, Given]:
    """Puts the content of …_file in the place of its secret; unknown keys become faults."""
    found: dict[Key, Given] = {}
    for key, entry in given.items():
        secret = (*key[:-1], key[-1].removesuffix("_file"))
        if key in _LEAVES:
            found[key] = entry
        elif key[-1].endswith("_file") and secret in _SECRETS:
            if secret in given:
                faults.append(_fault(secret, given[secret], f"given twice, here and as {'.'.join(key)}"))
            try:
                content = Path(str(entry.value)).read_text(encoding="utf-8").rstrip("\r\n")
                found[secret] = Given(content, f"{entry.source}, {entry.value}")
            except (OSError, UnicodeDecodeError) as error:
                faults.append(
                    _fault(key, entry, f"cannot be read: {getattr(error, 'strerror', None) or error}")
                )
        else:
            faults.append(_unknown(key, entry))
    return found


def _unknown(key: Key, entry: Given) -> Fault:
    """Its value is not repeated: under a misspelt key it may be a secret."""
    near = _nearest(key)
    if key in _SECTIONS:
        problem = f"is a section; set one of {', '.join(_keys_of(key))} in it"
    else:
        problem = "no such setting" + (f", did you mean {near}?" if near else "")
    return Fault(key=".".join(key), value=None, source=entry.source, problem=problem)


def _nearest(key: Key) -> str | None:
    """The setting that was probably meant: in the same section first, then anywhere; else the section."""
    if key[:-1] in _SECTIONS and (
        near := difflib.get_close_matches(key[-1], _keys_of(key[:-1]), n=1, cutoff=0.6)
    ):
        return ".".join((*key[:-1], near[0]))
    plain = {known.replace("_", "").replace(".", ""): known for known in _NAMES}
    wanted = ".".join(key).replace("_", "").replace(".", "")
    if near := difflib.get_close_matches(wanted, plain, n=1, cutoff=0.75):
        return plain[near[0]]
    near = difflib.get_close_matches(key[0], [s for s, *_ in _SECTIONS], n=1) if len(key) == 1 else []
    return near[0] if near else None


def _keys_of(section: Key) -> list[str]:
    return sorted({key[len(section)] for key in _LEAVES if key[: len(section)] == section})


def _fault(key: Key, entry: Given | None, problem: str) -> Fault:
    return Fault(
        key=".".join(key),
        value=None if entry is None else _shown(key, entry.value),
        source="not set" if entry is None else entry.source,
        problem=problem,
    )


def _shown(key: Key, value: Any) -> str:
    """The value for a message: secrets masked, also the user and password of an address."""
    if key in _SECRETS:
        return "***"
    text = json.dumps(value, ensure_ascii=False, default=str)
    if "@" in text and "://" in text:
        scheme, _, rest = text.partition("://")
        return f"{scheme}://***@{rest.rpartition('@')[2]}"
    return text


def _read_all(given: Mapping[Key, Given], faults: list[Fault]) -> dict[Key, Any]:
    values = {}
    for key, annotation in _LEAVES.items():
        entry = given.get(key)
        if entry is None:
            faults.append(_fault(key, None, f"missing; allowed is {_words(annotation)}"))
            continue
        try:
            values[key] = TypeAdapter(annotation).validate_python(_plain(entry, annotation))
        except (ValidationError, ValueError):
            faults.append(_fault(key, entry, f"allowed is {_words(annotation)}{_hint(entry, annotation)}"))
    return values


def _is_collection(annotation: Any) -> bool:
    bare = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    return get_origin(bare) in (list, dict)


def _plain(entry: Given, annotation: Any) -> Any:
    return json.loads(entry.value) if entry.text and _is_collection(annotation) else entry.value


def _hint(entry: Given, annotation: Any) -> str:
    return ", as JSON" if entry.text and _is_collection(annotation) else ""


def _build(values: Mapping[Key, Any], given: Mapping[Key, Given], faults: list[Fault]) -> Settings | None:
    """Sections whose values are all right are checked for contradictions even when others are not."""
    built: dict[Key, Any] = dict(values)
    for section in sorted({*_SECTIONS, ()}, key=len, reverse=True):
        model = _model_of(section)
        parts = {name: built.get((*section, name)) for name in model.model_fields}
        if any((*section, name) not in built for name in parts):
            continue
        made = model.model_construct(**parts)
        for name, problem in made.conflicts():
            key = (*section, *name.split("."))
            faults.append(_fault(key, given.get(key), problem))
        built[section] = made
    return built.get(())


def _model_of(section: Key) -> type[Section]:
    model: Any = Settings
    for name in section:
        model = model.model_fields[name].annotation
    return model  # type: ignore[no-any-return] # fields that are sections have a Section as annotation
