"""Scenario files: who and what plays, what happens when.

A scenario is YAML, checked key by key when it is read; all faults are told at once, each with the place
in the file. Times of the file are local times of the scenario's zone ("2026-11-22 22:58"), durations are
numbers with a unit ("30s", "12m", "6h", "10d"). docs/decisions/0006-simulator.md says what is in the file
and what in the code.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from device_sim.faults import FAULTS, can_have
from device_sim.physics import (
    car,
    coffee_machine,
    dishwasher,
    electric_car,
    heat_pump,
    refrigerator,
    washing_machine,
)
from device_sim.physics.driving import ROUTES
from device_sim.physics.places import PLACES

HERE = Path(__file__).resolve().parent / "scenarios"
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)")


class ScenarioError(Exception):
    """A scenario that cannot be played: one line for each fault, with its place in the file."""

    def __init__(self, source: str, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(f"{source}: {fault}" for fault in self.faults))


# --- values ------------------------------------------------------------------------------------


def _duration(value: Any) -> int:
    match = _DURATION.fullmatch(str(value))
    if match is None:
        raise ValueError(
            f"{value!r} is no duration; write a number with its unit, such as 30s, 12m, 6h or 10d"
        )
    return round(float(match[1]) * _UNITS[match[2]])


def _shift(value: Any) -> int:
    text = str(value)
    return -_duration(text[1:]) if text.startswith("-") else _duration(text.removeprefix("+"))


def _moment(value: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError(f"{value!r} is no local time; write it as 2026-11-22 22:58") from None
    if moment.tzinfo is not None:
        raise ValueError(f"{value!r} has a zone; times of a scenario are local times of its time_zone")
    return moment


def _day(value: Any) -> date:
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        raise ValueError(f"{value!r} is no day; write it as 2026-11-22") from None


def _clock(value: Any) -> time:
    try:
        return time.fromisoformat(str(value).zfill(5))
    except ValueError:
        raise ValueError(f"{value!r} is no time of day; write it as 17:30") from None


Duration = Annotated[int, BeforeValidator(_duration)]
"""milliseconds"""
Shift = Annotated[int, BeforeValidator(lambda value: _shift(value))]
"""milliseconds, with a sign"""
Moment = Annotated[datetime, BeforeValidator(_moment)]
"""naive, local"""
Day = Annotated[date, BeforeValidator(_day)]
Clock = Annotated[time, BeforeValidator(_clock)]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class Part(BaseModel):
    """A part of a scenario: frozen, and a key that it does not know is a fault."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# --- workshops -----------------------------------------------------------------------------------


class SparePart(Part):
    """A part that a job needs."""

    name: str
    days: Annotated[int, Field(ge=0, le=365)] = 0
    """whole days until it can be there"""


class HomePart(Part):
    """How a workshop's technicians come to owners."""

    window_minutes: Annotated[int, Field(ge=30, le=720)] = 120
    travel_minutes: Annotated[int, Field(ge=0, le=720)] = 30
    postcodes: list[str] = []
    """beginnings of the postcodes it comes to"""


class ServicePart(Part):
    """A job a workshop does."""

    id: Id
    names: dict[str, str]
    minutes: Annotated[int, Field(gt=0, le=600)]
    price_from: int | None = None
    price_to: int | None = None
    currency: str = "EUR"
    lead_days: Annotated[int, Field(ge=0)] = 1
    buffer_minutes: Annotated[int, Field(ge=0, le=720)] = 0
    skills: list[str] = []
    parts: list[SparePart] = []
    at_home: bool = False
    vat_percent: Annotated[float, Field(ge=0, le=100)] | None = None
    price_valid_until: Day | None = None
    warranty: bool = False
    """the manufacturer's warranty pays for it while it runs"""


class WorkshopPart(Part):
    """A workshop, and what stands in its calendar already."""

    id: Id
    name: str
    address: str | None = None
    phone: str | None = None
    bays: Annotated[list[str], Field(min_length=1)]
    hours: dict[Weekday, list[tuple[Clock, Clock]]]
    holidays: list[Day] = []
    services: Annotated[list[ServicePart], Field(min_length=1)]
    books: Literal["at_once", "on_request"] = "at_once"
    country: str | None = None
    """closed on its public holidays"""
    region: str | None = None
    skills: dict[str, list[str]] = {}
    """bay → what it can do"""
    replacement_cars: Annotated[int, Field(ge=0)] | None = None
    home: HomePart | None = None
    entries: dict[Day, dict[str, list[str]]] = {}
    """day → bay → "08:00 90 Inspektion · Arden 3 · HH-TB 118": start, minutes, label"""
    note: str = "Done as ordered."
    """what it writes when a job is done"""
    parts: dict[str, list[str]] = {}
    """service → parts used"""
    looks: Literal["hourly", "daily"] = "hourly"
    """how often it looks into its calendar"""
    late: Duration = 0
    """how much later than agreed its jobs end, on average"""
    botches: Annotated[float, Field(ge=0, le=1)] = 0.0
    """share of the jobs that mend nothing"""
    counters: Annotated[float, Field(ge=0, le=1)] = 0.0
    """of one that books on request: share of the requests that it answers with another time"""


# --- owners --------------------------------------------------------------------------------------


class WithdrawalPart(Part):
    """A consent that is taken back."""

    purpose: str = "maintenance"
    at: Moment


class ActsPart(Part):
    """What an owner does about a touchpoint when nobody plays them."""

    sees: Literal["push", "display", "nothing"] = "push"
    visitor: bool = False
    """played by the visitor in the live demo; headless they act as written here"""
    after: Duration = 12 * 60_000
    """time until they answer, the median: it is drawn with a spread"""
    answer: Literal["book", "not_now", "snooze", "already_done", "noted", "call_me", "elsewhere"] = "book"
    """snooze: next week, and then they book; not_now also stands in when an action is not offered; elsewhere:
    they have it done by somebody who is not known here, within two weeks, and say not_now"""
    ignores: Annotated[float, Field(ge=0, le=1)] = 0.0
    """share of the touchpoints that they never answer"""
    does: Annotated[float, Field(ge=0, le=1)] = 0.0
    """how surely they do themselves, within days, what a reminder or hint asks for"""
    shows_up: Annotated[float, Field(ge=0, le=1)] = 1.0
    """how surely they come to an appointment"""
    slot: Literal["first", "last", "evening", "morning"] = "first"
    descales: bool = False
    """runs the descaling program on the next Saturday at 10 when asked to"""
    withdraws: list[WithdrawalPart] = []
    """consents that they take back"""
    score: Annotated[int, Field(ge=0, le=10)] | None = 5
    """answer to a question of five; scaled for other scales; None never answers"""
    comment: str | None = None


class PreferencesPart(Part):
    """When and how they want to be reached; what is left out is the gateway's default."""

    quiet_from: str | None = None
    quiet_to: str | None = None
    channels: list[str] | None = None
    muted: list[str] | None = None
    weekly_budget: int | None = None


class OwnerPart(Part):
    """Somebody who owns products."""

    id: Id
    name: str
    email: str | None = None
    phone: str | None = None
    address: str | None = None
    language: Literal["en", "de"] = "en"
    time_zone: str | None = None
    wishes: dict[str, Any] = {}
    consents: dict[str, bool] = {}
    preferences: PreferencesPart = PreferencesPart()
    acts: ActsPart = ActsPart()


# --- devices -------------------------------------------------------------------------------------


class Mark(Part):
    """A value that a state has at a time: what came before is solved so that it does."""

    value: float
    at: Moment


class TripPart(Part):
    """A trip on one day, or a habit on some weekdays."""

    on: Day | None = None
    days: list[Weekday] = []
    leave: Clock
    arrive: Clock
    route: str = "commute"
    spread: Duration = 0
    """standard deviation of leaving; the trip then lasts a little longer or shorter too"""
    chance: Annotated[float, Field(gt=0, le=1)] = 1.0
    every: Duration = 120_000
    """between two messages while driving"""

    @model_validator(mode="after")
    def _one_of(self) -> TripPart:
        if (self.on is None) == (not self.days):
            raise ValueError("a trip has either `on` (one day) or `days` (weekdays)")
        if self.arrive <= self.leave:
            raise ValueError("a trip arrives after it left, on the same day")
        if self.route not in ROUTES:
            raise ValueError(f"route {self.route!r} is unknown; there are {', '.join(ROUTES)}")
        return self


class RunPart(Part):
    """A use of an appliance on one day, or a habit on some weekdays: a program, or cups of coffee."""

    on: Day | None = None
    days: list[Weekday] = []
    at: Clock
    program: str = ""
    """of a dishwasher or washing machine; of a coffee machine `milk` where there is some in it"""
    count: Annotated[int, Field(ge=1, le=20)] = 1
    """cups, one after the other"""
    spread: Duration = 0
    chance: Annotated[float, Field(gt=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _one_of(self) -> RunPart:
        if (self.on is None) == (not self.days):
            raise ValueError("a run has either `on` (one day) or `days` (weekdays)")
        return self


class WashPart(Part):
    """A wash on one day, or a habit on some weekdays."""

    on: Day | None = None
    days: list[Weekday] = []
    at: Clock
    program: str = "mixed_40"
    spread: Duration = 0

    @model_validator(mode="after")
    def _one_of(self) -> WashPart:
        if (self.on is None) == (not self.days):
            raise ValueError("a wash has either `on` (one day) or `days` (weekdays)")
        if self.program not in washing_machine.PROGRAMS:
            raise ValueError(
                f"program {self.program!r} is unknown; there are {', '.join(washing_machine.PROGRAMS)}"
            )
        return self


class FaultPart(Part):
    """Something that goes wrong at a known date: from nothing at `onset` to `to` (device_sim/faults.py)."""

    fault: str
    onset: Moment
    over: Duration = 1
    to: Annotated[float, Field(gt=0)] = 1.0
    """share of the coolant lost, of the battery's health lost, of the filter closed; factor of vibration; of
    all others the share of their course, 1 being the whole"""
    code: str | None = None
    """of trouble_code: set from onset until `over` later"""

    @model_validator(mode="after")
    def _whole(self) -> FaultPart:
        if self.fault not in FAULTS:
            raise ValueError(f"{self.fault!r} is unknown; there are {', '.join(FAULTS)}")
        if (self.fault == "trouble_code") != (self.code is not None):
            raise ValueError("`code` belongs to trouble_code, and to nothing else")
        return self


class TroublePart(Part):
    """Something that is wrong with a device's messages for a while."""

    what: Literal[
        "wrong_clock", "wrong_unit", "dropouts", "drift", "poison", "duplicates", "flood", "somebody_else"
    ]
    begin: Moment
    end: Moment
    shift: Shift = 0
    """of wrong_clock: how far its clock is ahead, or (negative) behind"""
    signal: str = ""
    """of wrong_unit: whose value comes out as value x factor + offset; of drift: whose value wanders; of
    dropouts: whose values are missing, all of them when none is named"""
    factor: float = 1.0
    offset: float = 0.0
    per_day: float = 0.0
    """of drift: what is added to the value each day, in its unit"""
    share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """of the messages that come twice, or are noise; of the values that drop out"""
    count: Annotated[int, Field(ge=0, le=1000)] = 20
    """of flood: so many needless messages with each one"""
    whose: Id | None = None
    """of somebody_else: the device in whose name it speaks, too"""


class GapPart(Part):
    """A time without network. What was measured comes afterwards, or (`lost`) never."""

    begin: Moment
    end: Moment
    lost: bool = False
    in_order: bool = False
    """what comes late comes in its order, and nothing twice"""

    @model_validator(mode="after")
    def _forward(self) -> GapPart:
        if self.end <= self.begin:
            raise ValueError("a gap ends after it began")
        return self


class AwayPart(Part):
    """A journey: there on one day, back on another. A car drives it, other devices stand unused meanwhile."""

    to: str
    leave: Moment
    back: Moment
    hours: Annotated[float, Field(gt=0, le=20)] = 5.0
    """of driving, each way"""


class UpdatePart(Part):
    """A firmware that is installed at a time."""

    version: str
    at: Moment


Kind = Literal["car", "washing_machine", "dishwasher", "coffee_machine", "refrigerator", "heat_pump"]


class DevicePart(Part):
    """A product: what the register says of it, what state it is in, how it is used."""

    id: Id
    kind: Kind
    model: str
    owner: Id
    workshop: Id | None = None
    name: str | None = None
    plate: str | None = None
    serial: str | None = None
    purchased: Day | None = None
    warranty_until: Day | None = None
    firmware: str | None = None
    # what it is like
    marks: dict[str, Mark] = {}
    """state → its value at a time"""
    wear: Annotated[float, Field(gt=0)] = 1.0
    """how much faster than its model it wears, besides the seeded spread between units"""
    briskness: Annotated[float, Field(ge=0.5, le=2)] = 1.0
    hardness: Annotated[float, Field(ge=0, le=40)] = 14.0
    """°dH"""
    trips: list[TripPart] = []
    washes: list[WashPart] = []
    runs: list[RunPart] = []
    idle: Duration = 28_800_000
    """between two messages of a device that is not in use"""
    faults: list[FaultPart] = []
    gaps: list[GapPart] = []
    troubles: list[TroublePart] = []
    reports: Literal["basic", "full"] = "basic"
    """full: everything the shipped rules ask for, and needs are noted; basic: what the first story tells"""
    format: Literal["native", "senml", "sparkplug"] = "native"
    certificate: str | None = None
    """whose certificate it shows to the broker: its own, unless another device is named"""
    place: str = "hamburg"
    begins: dict[str, float] = {}
    """state → its value at the beginning, where no mark says it (of a device that reports fully)"""
    recalled: Moment | None = None
    """from when on a recall of it is open"""
    away: list[AwayPart] = []
    """journeys to another place, and back"""
    updates: list[UpdatePart] = []


MARKS: dict[str, tuple[str, ...]] = {
    "car": ("odometer", "pad_wear_front", "pad_wear_rear", "oil_wear"),
    "washing_machine": ("washes_since_descale", "wash_cycles"),
}
"""States that a mark can fix, by kind."""
MODELS: dict[str, tuple[str, ...]] = {
    "car": (*car.MODELS, *electric_car.MODELS),
    "washing_machine": tuple(washing_machine.MODELS),
    "dishwasher": tuple(dishwasher.MODELS),
    "coffee_machine": tuple(coffee_machine.MODELS),
    "refrigerator": tuple(refrigerator.MODELS),
    "heat_pump": tuple(heat_pump.MODELS),
}


# --- groups and events -----------------------------------------------------------------------------


class GroupPart(Part):
    """Many owners with a device each, drawn by habit, model, age and place (device_sim/population.py)."""

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,40}$")]
    count: Annotated[int, Field(ge=1, le=100_000)]
    kind: Kind
    models: dict[str, Annotated[float, Field(gt=0)]]
    """model → its weight"""
    habit: Literal["commuter", "van", "family", "seldom", "washing", "dishes", "drinking", "always_on"]
    places: dict[str, Annotated[float, Field(gt=0)]] = {"hamburg": 1.0}
    age: tuple[float, float] = (1.0, 8.0)
    """years in use at the beginning, from and to"""
    people: dict[
        Literal["prompt", "slow", "forgetful", "snoozes", "never", "declines", "elsewhere"], float
    ] = {
        "prompt": 0.5, "slow": 0.24, "forgetful": 0.08, "snoozes": 0.04, "never": 0.03, "declines": 0.05,
        "elsewhere": 0.06,
    }  # fmt: skip
    """how they act → weight"""
    workshops: list[Id] = []
    """those they go to; all, when none is named"""
    firmware: str | None = None
    idle: Duration = 28_800_000
    format: Literal["native", "senml", "sparkplug"] = "native"
    faults: dict[str, Annotated[float, Field(ge=0)]] = {}
    """fault → onsets a year and device, instead of the usual rate"""
    fault_factor: Annotated[float, Field(ge=0)] = 1.0
    """how much more than usual goes wrong"""
    gaps_a_month: Annotated[float, Field(ge=0, le=100)] = 0.0
    """times without network"""
    holidays: bool = False
    """most are away for one or two weeks in summer"""


class EventPart(Part):
    """Something that happens to many at once."""

    what: Literal["outage", "recall", "firmware", "trouble", "journey", "fault", "strike", "sale"]
    at: Moment
    lasts: Duration = 1
    """of an outage, trouble, journey or strike; over which a firmware is rolled out or faults set in"""
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """of the devices that it concerns"""
    kind: Kind | None = None
    models: list[str] = []
    devices: list[Id] = []
    lost: bool = False
    """of an outage: what was measured meanwhile never comes"""
    in_order: Annotated[float, Field(ge=0, le=1)] = 0.5
    """of an outage: the share of devices that send what is late in its order"""
    version: str | None = None
    trouble: TroublePart | None = None
    """what a firmware, or a trouble, does to messages; its own begin and end are put aside"""
    mended: Moment | None = None
    """when a bad firmware is rolled back"""
    fault: str | None = None
    course: Duration = 2_592_000_000
    to: str | None = None
    """of a journey: where; of a sale: the new owner's id"""
    hours: Annotated[float, Field(gt=0, le=20)] = 5.0
    workshops: list[Id] = []
    """of a strike; all, when none is named"""


# --- the whole -----------------------------------------------------------------------------------


class ScenarioPart(Part):
    """The file."""

    name: Id
    about: str
    time_zone: str = "Europe/Berlin"
    start: Moment
    span: Duration
    history: Duration = 0
    """how long before the start the devices were in use already"""
    workshops: list[WorkshopPart] = []
    owners: list[OwnerPart] = []
    devices: list[DevicePart] = []
    groups: list[GroupPart] = []
    events: list[EventPart] = []
    scored_after: Duration = 0
    """how long after the start findings and needs begin to count, so that windows are filled"""

    @model_validator(mode="after")
    def _somebody(self) -> ScenarioPart:
        if not self.devices and not self.groups:
            raise ValueError("devices: a scenario has at least one device or group")
        return self


class Scenario:
    """A checked scenario. `part` is the file; the rest is what others need of it, as plain data."""

    def __init__(self, part: ScenarioPart) -> None:
        self.part = part
        self.name = part.name
        self.zone = ZoneInfo(part.time_zone)
        self.start = self.ms(part.start)
        """ms"""
        self.end = self.start + part.span
        self.history_start = self.start - part.history

    @staticmethod
    def load(name_or_path: str) -> Scenario:
        """A shipped scenario by its name, or a file. Raises ScenarioError."""
        shipped = HERE / f"{name_or_path}.yaml"
        path = shipped if shipped.is_file() else Path(name_or_path)
        try:
            return Scenario.parse(path.read_text(encoding="utf-8"), path.name)
        except OSError as error:
            known = ", ".join(scenarios())
            raise ScenarioError(
                name_or_path, [f"cannot be read ({error.strerror}); shipped: {known}"]
            ) from error

    @staticmethod
    def parse(text: str, source: str = "scenario") -> Scenario:
        """Check a scenario's text. Raises ScenarioError with every fault."""
        try:
            part = ScenarioPart.model_validate(yaml.load(text, _Loader))  # a SafeLoader
        except yaml.YAMLError as error:
            raise ScenarioError(source, [f"is not YAML: {error}"]) from error
        except ValidationError as error:
            raise ScenarioError(source, [_fault(row) for row in error.errors()]) from error
        if faults := list(_contradictions(part)):
            raise ScenarioError(source, faults)
        return Scenario(part)

    def peopled(self, seed: int) -> Scenario:
        """With its groups drawn into owners and devices, and its events laid on them."""
        from device_sim.population import peopled

        return peopled(self, seed)

    def ms(self, moment: datetime) -> int:
        """UTC milliseconds of a local time of the scenario."""
        return round(moment.replace(tzinfo=self.zone).timestamp() * 1000)

    def local(self, at: int) -> datetime:
        """The wall clock at `at`."""
        return datetime.fromtimestamp(at / 1000, self.zone)

    # --- plain data in the shapes of the JSON API

    @cached_property
    def owners(self) -> list[dict[str, Any]]:
        """As POST /api/v1/owners takes them."""
        return [
            _plain(owner, "id", "name", "email", "phone", "address", "language", "wishes")
            | {"time_zone": owner.time_zone or self.part.time_zone}
            for owner in self.part.owners
        ]

    @cached_property
    def consents(self) -> list[dict[str, Any]]:
        """{"owner", "purpose", "granted"}"""
        return [
            {"owner": owner.id, "purpose": purpose, "granted": granted}
            for owner in self.part.owners
            for purpose, granted in sorted(owner.consents.items())
        ]

    @cached_property
    def preferences(self) -> list[dict[str, Any]]:
        """{"owner", …}: only what differs from the gateway's defaults; owners without wishes are left out."""
        stated = [(o.id, o.preferences.model_dump(exclude_none=True)) for o in self.part.owners]
        return [{"owner": owner} | wishes for owner, wishes in stated if wishes]

    @cached_property
    def devices(self) -> list[dict[str, Any]]:
        """As POST /api/v1/devices takes them."""
        keys = ("id", "kind", "model", "owner", "name", "plate", "serial", "purchased", "warranty_until")
        return [_plain(device, *keys, "workshop", "firmware") for device in self.part.devices]

    @cached_property
    def workshops(self) -> list[dict[str, Any]]:
        """As POST /api/v1/workshops takes them."""
        return [
            _plain(shop, "id", "name", "address", "phone", "bays", "books", *_BEYOND)
            | {
                "time_zone": self.part.time_zone,
                "hours": {
                    day: [[f"{a:%H:%M}", f"{b:%H:%M}"] for a, b in spans] for day, spans in shop.hours.items()
                },
                "holidays": [day.isoformat() for day in shop.holidays],
                "services": [service.model_dump(mode="json", exclude_none=True) for service in shop.services],
            }
            for shop in self.part.workshops
        ]

    @cached_property
    def appointments(self) -> list[dict[str, Any]]:
        """The workshops' own entries: {"workshop", "bay", "start", "end" (ms), "label", "service"}."""
        return [
            {
                "workshop": shop.id,
                "bay": entry.bay,
                "start": self.ms(entry.start),
                "end": self.ms(entry.start) + entry.minutes * 60_000,
                "label": entry.label,
                "service": "own",
            }
            for shop in self.part.workshops
            for entry in entries(shop)
        ]


class Entry(Part):
    """One of a workshop's own appointments."""

    bay: str
    start: Moment
    minutes: int
    label: str


_ENTRY = re.compile(r"(\d?\d:\d\d) (\d+) (\S.*)")


def entries(shop: WorkshopPart) -> Iterator[Entry]:
    """The entries of a workshop's calendar, by day and bay. Raises ValueError for one that cannot be read."""
    for day, bays in shop.entries.items():
        for bay, lines in bays.items():
            for line in lines:
                match = _ENTRY.fullmatch(line)
                if match is None:
                    raise ValueError(f"{day} {bay}: {line!r} is no entry; write it as 08:00 90 Inspection")
                start = datetime.combine(day, _clock(match[1]))
                yield Entry(bay=bay, start=start, minutes=int(match[2]), label=match[3])


def scenarios() -> list[str]:
    """Names of the shipped scenarios."""
    return sorted(path.stem for path in HERE.glob("*.yaml"))


_BEYOND = ("country", "region", "skills", "replacement_cars", "home")
"""What a workshop states that it may also leave out."""


def _plain(part: Part, *keys: str) -> dict[str, Any]:
    return {k: v for k, v in part.model_dump(mode="json", include=set(keys)).items() if v is not None}


_PLAIN = {"int": re.compile(r"[-+]?\d+$"), "bool": re.compile(r"(?:true|false)$")}


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # C where there is one
    """Reads days and times as the texts they are written as, and `on` as the word it is: YAML 1.1 takes 17:30
    for 1050, and on for true."""


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, _PLAIN.get(tag.rpartition(":")[2], regexp))
        for tag, regexp in rows
        if not tag.endswith(":timestamp")
    ]
    for first, rows in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


# --- faults --------------------------------------------------------------------------------------


def _fault(row: Mapping[str, Any]) -> str:
    where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in row["loc"]).lstrip(".")
    said = str(row["msg"]).removeprefix("Value error, ")
    if row["type"] == "extra_forbidden":
        said = "is no key of a scenario"
    return f"{where or 'the file'}: {said}"


def _contradictions(part: ScenarioPart) -> Iterator[str]:
    """What is well-formed and still cannot be played."""
    try:
        ZoneInfo(part.time_zone)
    except (KeyError, ValueError, OSError):
        yield f"time_zone: {part.time_zone!r} is no IANA time zone"
    for what in ("workshops", "owners", "devices"):
        yield from _twice(what, [item.id for item in getattr(part, what)])
    owners, shops = {o.id for o in part.owners}, {w.id for w in part.workshops}
    for number, device in enumerate(part.devices):
        where = f"devices[{number}]"
        if device.owner not in owners:
            yield f"{where}.owner: nobody has the id {device.owner!r}"
        if device.workshop is not None and device.workshop not in shops:
            yield f"{where}.workshop: no workshop has the id {device.workshop!r}"
        yield from (f"{where}.{fault}" for fault in _device_faults(device))
    for number, group in enumerate(part.groups):
        yield from (f"groups[{number}].{fault}" for fault in _group_faults(group, shops))
    for number, event in enumerate(part.events):
        yield from (f"events[{number}].{fault}" for fault in _event_faults(event, owners, shops))
    for number, shop in enumerate(part.workshops):
        yield from (f"workshops[{number}].entries: {fault}" for fault in _entry_faults(shop))


def _group_faults(group: GroupPart, shops: set[str]) -> Iterator[str]:
    for model in group.models:
        if model not in MODELS[group.kind]:
            yield f"models: {model!r} is no {group.kind}; there are {', '.join(MODELS[group.kind])}"
    for place in group.places:
        if place not in PLACES:
            yield f"places: {place!r} is unknown; there are {', '.join(PLACES)}"
    for fault in group.faults:
        if fault not in can_have(group.kind):
            yield f"faults: {fault} is nothing a {group.kind} can have"
    for shop in group.workshops:
        if shop not in shops:
            yield f"workshops: no workshop has the id {shop!r}"
    if group.habit not in HABITS_OF[group.kind]:
        yield f"habit: a {group.kind} is used as {', '.join(HABITS_OF[group.kind])}"


HABITS_OF: dict[str, tuple[str, ...]] = {
    "car": ("commuter", "van", "family", "seldom"),
    "washing_machine": ("washing",),
    "dishwasher": ("dishes",),
    "coffee_machine": ("drinking",),
    "refrigerator": ("always_on",),
    "heat_pump": ("always_on",),
}


def _event_faults(event: EventPart, owners: set[str], shops: set[str]) -> Iterator[str]:
    if event.fault is not None and event.fault not in FAULTS:
        yield f"fault: {event.fault!r} is unknown; there are {', '.join(FAULTS)}"
    if (
        event.what in ("fault", "sale", "trouble")
        and getattr(event, {"sale": "to"}.get(event.what, event.what)) is None
    ):
        yield f"{ {'sale': 'to'}.get(event.what, event.what) }: {event.what} needs one"
    if event.what == "journey" and event.to not in PLACES:
        yield f"to: {event.to!r} is unknown; there are {', '.join(PLACES)}"
    if event.what == "sale" and event.to not in owners:
        yield f"to: nobody has the id {event.to!r}"
    for shop in event.workshops:
        if shop not in shops:
            yield f"workshops: no workshop has the id {shop!r}"


def _twice(what: str, ids: list[str]) -> Iterator[str]:
    yield from (
        f"{what}: the id {name!r} stands there {n} times" for name, n in Counter(ids).items() if n > 1
    )


def _device_faults(device: DevicePart) -> Iterator[str]:
    models = MODELS[device.kind]
    if device.model not in models:
        yield f"model: {device.model!r} is no {device.kind}; there are {', '.join(models)}"
    for state in device.marks:
        if state not in MARKS.get(device.kind, ()):
            yield f"marks.{state}: a {device.kind} has {', '.join(MARKS.get(device.kind, ())) or 'none'}"
    if device.place not in PLACES:
        yield f"place: {device.place!r} is unknown; there are {', '.join(PLACES)}"
    for journey in device.away:
        if journey.to not in PLACES:
            yield f"away: {journey.to!r} is unknown; there are {', '.join(PLACES)}"
    for fault in device.faults:
        if fault.fault not in can_have(device.kind):
            yield f"faults: {fault.fault} is nothing a {device.kind} can have"
    if device.kind == "car" and (device.washes or device.runs):
        yield "washes: a car does not wash"
    if device.kind != "car" and device.trips:
        yield f"trips: a {device.kind} does not drive"


def _entry_faults(shop: WorkshopPart) -> Iterator[str]:
    """Entries that cannot be read, outside the hours, or two in one bay at a time."""
    try:
        listed = list(entries(shop))
    except ValueError as error:
        yield str(error)
        return
    ends: dict[tuple[str, date], datetime] = {}
    for entry in sorted(listed, key=lambda entry: entry.start):
        day, until = entry.start.date(), entry.start + timedelta(minutes=entry.minutes)
        if entry.bay not in shop.bays:
            yield f"{day}: no bay is called {entry.bay!r}"
        hours = shop.hours.get(WEEKDAYS[day.weekday()], [])  # type: ignore[call-overload]
        if not any(a <= entry.start.time() and until.time() <= b for a, b in hours):
            yield f"{day} {entry.bay} {entry.start:%H:%M}: {shop.name} is closed then"
        if entry.start < ends.get((entry.bay, day), entry.start):
            yield f"{day} {entry.bay} {entry.start:%H:%M}: the bay is taken"
        ends[entry.bay, day] = until
