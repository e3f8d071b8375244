"""Populations: from "250 commuters in Hamburg" to 250 owners with a car, habits, a past and faults to come.

A group of a scenario is drawn into the same parts that a scenario could list one by one, from seeds made of
the scenario's seed and the device, so that one group changes nothing for another.

Habits: kilometres a year by kind of driver follow the German mobility survey (MiD 2017: commuters 15,000 km,
families 12,000, retired people 8,000); washes, runs and cups a week by size of household the consumer
associations' figures.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from typing import Any

from device_sim.faults import FAULTS, Fault, can_have
from device_sim.physics import car, electric_car, heat_pump
from device_sim.physics.places import PLACES
from device_sim.scenario import (
    AwayPart,
    DevicePart,
    EventPart,
    FaultPart,
    GapPart,
    GroupPart,
    OwnerPart,
    Scenario,
    ScenarioPart,
    UpdatePart,
)

WORKDAYS = ["mon", "tue", "wed", "thu", "fri"]
Draw = Callable[[random.Random], dict[str, Any]]


def peopled(scenario: Scenario, seed: int) -> Scenario:
    """The scenario with its groups drawn into owners and devices, and its events laid on them."""
    part = scenario.part
    if not part.groups and all(event.what in ("sale", "strike") for event in part.events):
        return scenario
    owners, devices = list(part.owners), list(part.devices)
    for group in part.groups:
        for number in range(group.count):
            owner, device = _drawn(scenario, part, group, f"{group.id}-{number:04}", seed)
            owners.append(owner)
            devices.append(device)
    devices = [_with_events(scenario, device, part.events, seed) for device in devices]
    left = [event for event in part.events if event.what in ("sale", "strike")]
    whole = part.model_copy(update={"owners": owners, "devices": devices, "groups": [], "events": left})
    return Scenario(whole)


# --- one member of a group -------------------------------------------------------------------------


def _drawn(
    scenario: Scenario, part: ScenarioPart, group: GroupPart, name: str, seed: int
) -> tuple[OwnerPart, DevicePart]:
    rng = random.Random(f"{seed}/{scenario.name}/{name}")
    model = rng.choices([*group.models], [*group.models.values()])[0]
    place = rng.choices([*group.places], [*group.places.values()])[0]
    shops = group.workshops or [shop.id for shop in part.workshops]
    owner = _owner(group, name, rng)
    habit = HABITS[group.habit](rng)
    begins = _begins(group, model, rng) | habit.pop("begins", {})
    device = DevicePart(
        id=name,
        kind=group.kind,
        model=model,
        owner=owner.id,
        workshop=rng.choice(shops) if shops else None,
        firmware=group.firmware,
        wear=round(rng.lognormvariate(0, 0.12), 3),
        briskness=round(min(1.6, max(0.7, rng.gauss(1.0, 0.12))), 2),
        hardness=max(2.0, round(rng.gauss(PLACES[place].hardness, 1.5), 1)),
        idle=f"{group.idle // 1000}s",
        place=place,
        reports="full",
        format=group.format,
        begins=begins,
        faults=list(_faults(scenario, part, group, model, rng)),
        gaps=list(_dead_spots(group, part, rng)),
        **habit,
    )
    if group.holidays:
        device = _holidays(scenario, part, device, rng)
    return owner, device


def _owner(group: GroupPart, name: str, rng: random.Random) -> OwnerPart:
    weights = {str(kind): weight for kind, weight in group.people.items()}
    acts = rng.choices([*ACTS], [weights.get(kind, 0.0) for kind in ACTS])[0]
    consents = {"maintenance": rng.random() < 0.96, "usage": rng.random() < 0.85, "safety": True}
    return OwnerPart(
        id=f"o-{name}",
        name=f"Owner {name}",
        email=f"{name}@example.com",
        language=rng.choice(("de", "en")),
        consents=consents,
        acts=ACTS[acts](rng),
    )


ACTS: Mapping[str, Callable[[random.Random], dict[str, Any]]] = {
    "prompt": lambda r: {
        "after": f"{r.randint(5, 90)}m",
        "slot": r.choice(("first", "evening")),
        "does": 0.9,
    },
    "slow": lambda r: {
        "after": f"{r.randint(6, 60)}h",
        "slot": r.choice(("first", "last", "evening")),
        "does": 0.7,
    },
    "forgetful": lambda r: {"after": f"{r.randint(2, 8)}h", "ignores": 0.5, "does": 0.4},
    "snoozes": lambda r: {"after": f"{r.randint(10, 90)}m", "answer": "snooze", "does": 0.7},
    "never": lambda r: {"sees": "nothing", "score": None, "does": 0.0},
    "declines": lambda r: {"after": f"{r.randint(1, 12)}h", "answer": "not_now", "does": 0.2, "score": 2},
    "elsewhere": lambda r: {"after": f"{r.randint(2, 30)}h", "answer": "elsewhere", "does": 0.8, "score": 3},
}
"""How owners act, by kind."""


def _begins(group: GroupPart, model: str, rng: random.Random) -> dict[str, float]:
    """A past that nobody recorded: how far wear has gone when the scenario begins."""
    years = rng.uniform(*group.age)
    if group.kind == "car":
        electric = model in electric_car.MODELS
        begins = {
            "odometer": round(years * rng.uniform(8_000, 17_000) + 50),
            "pad_wear_front": rng.uniform(3, 82) if years > 0.3 else 3.0,
            "pad_wear_rear": rng.uniform(3, 82) if years > 0.3 else 3.0,
            "age_days": years * 365,
            "wipers": rng.uniform(0, 78),
            "washer_fluid": rng.uniform(0.3, 1),
            "service_km": rng.uniform(3_500, 29_000) if years > 0.3 else 29_900.0,
            "service_days": rng.uniform(50, 720) if years > 0.3 else 725.0,
            "lane_uses": 40 if years > 0.3 else (0 if rng.random() < 0.3 else 4),
            "preheats": rng.choice((0, 3, 12)) if electric else 3,
        }
        more = (
            {
                "health": 99.0 - 1.4 * years,
                "limit": 100 if rng.random() < 0.1 else 80,
                "at_peak": float(rng.random() < 0.12),
            }
            if electric
            else {
                "oil_wear": rng.uniform(2, 66),
                "oil_level": rng.uniform(0.65, 1),
                "adblue": rng.uniform(0.4, 1),
            }
        )
        return begins | more
    if group.kind == "washing_machine":
        washes = round(years * rng.uniform(120, 230))
        return {
            "wash_cycles": washes,
            "washes_since_descale": rng.randint(0, 34) if washes > 40 else 0,
            "since_filter": rng.randint(0, 60) if washes > 70 else 0,
            "seal": min(78.0, washes * 0.03),
            "eco_washes": washes // 3,
        }
    if group.kind == "dishwasher":
        runs = round(years * rng.uniform(150, 280))
        return {
            "runs": runs,
            "eco_runs": runs // 3,
            "since_filter": rng.randint(0, 24) if runs > 30 else 0,
            "since_care": rng.randint(0, 65) if runs > 80 else 0,
            "salt": rng.uniform(0.3, 1),
        }
    if group.kind == "coffee_machine":
        cups = round(years * rng.uniform(900, 2_600))
        return {"cups": cups, "milk_cups": cups // 4, "since_clean": rng.randint(0, 150),
                "filter_age": rng.uniform(0, 45), "water_since_descale": rng.uniform(0, 22)}  # fmt: skip
    return {}


def _faults(
    scenario: Scenario, part: ScenarioPart, group: GroupPart, model: str, rng: random.Random
) -> Iterator[FaultPart]:
    """Onsets as a Poisson process over the span, a little less at its end, so that most have a course."""
    years = part.span / 86_400_000 / 365.25
    for name in can_have(group.kind):
        fault = FAULTS[name]
        rate = group.faults.get(name, fault.rate * group.fault_factor) * years
        draw, when, course = rng.random(), rng.random(), rng.uniform(*fault.days)
        if not _built_so(fault, model) or draw >= 1 - math.exp(-rate):
            continue
        onset = part.start + timedelta(milliseconds=round(part.span * when))
        yield FaultPart.model_construct(
            fault=name, onset=onset.replace(microsecond=0), over=round(course * 86_400_000), to=1.0, code=None
        )


def _built_so(fault: Fault, model: str) -> bool:
    made = fault.for_models
    if not made:
        return True
    if made == "brine":
        return model in heat_pump.MODELS and heat_pump.MODELS[model].brine
    electric = model in electric_car.MODELS
    if made == "electric":
        return electric
    return not electric and (made != "diesel" or car.MODELS[model].efficiency > 0.35)


def _dead_spots(group: GroupPart, part: ScenarioPart, rng: random.Random) -> Iterator[GapPart]:
    """Times without network, by the group's rate."""
    at = part.start
    end = part.start + timedelta(milliseconds=part.span)
    while group.gaps_a_month > 0:
        at += timedelta(days=rng.expovariate(group.gaps_a_month / 30))
        if at >= end:
            return
        lasts = timedelta(hours=min(90.0, rng.lognormvariate(1.2, 1.0)))
        yield GapPart.model_construct(
            begin=at, end=at + lasts, lost=rng.random() < 0.1, in_order=rng.random() < 0.5
        )


def _holidays(scenario: Scenario, part: ScenarioPart, device: DevicePart, rng: random.Random) -> DevicePart:
    """Two weeks in summer, away; a car drives there when it is not too far."""
    summer = midnight(date(part.start.year, 7, 1)) + timedelta(days=rng.randrange(50), hours=9)
    if not part.start < summer < part.start + timedelta(milliseconds=part.span) or rng.random() < 0.3:
        return device
    others = [name for name in PLACES if name != device.place]
    back = summer + timedelta(days=rng.choice((7, 14)), hours=2)
    journey = AwayPart(to=rng.choice(others), leave=summer, back=back, hours=rng.uniform(3, 7))
    return device.model_copy(update={"away": [journey]})


# --- habits -----------------------------------------------------------------------------------------


def _trip(days: list[str], leave: str, minutes: int, **more: Any) -> dict[str, Any]:
    hour, minute = map(int, leave.split(":"))
    end = min(hour * 60 + minute + minutes, 23 * 60 + 55)
    return {"days": days, "leave": leave, "arrive": f"{end // 60:02}:{end % 60:02}", "every": "15m"} | more


def _clock(rng: random.Random, low: float, high: float) -> str:
    at = rng.uniform(low, high)
    return f"{int(at):02}:{int(at % 1 * 60):02}"


def _commuter(rng: random.Random) -> dict[str, Any]:
    route = rng.choice(("commute", "commute", "country", "motorway"))
    minutes = rng.randint(18, 32 if route == "motorway" else 42)
    return {
        "trips": [
            _trip(WORKDAYS, _clock(rng, 6.2, 8.4), minutes, route=route, spread="6m", chance=0.92),
            _trip(WORKDAYS, _clock(rng, 15.8, 18.2), minutes, route=route, spread="15m", chance=0.92),
            _trip(["sat"], _clock(rng, 9.5, 12), rng.randint(10, 30), route="town", spread="40m", chance=0.8),
            _trip(
                ["sun"], _clock(rng, 13, 15), rng.randint(25, 70), route="country", spread="40m", chance=0.5
            ),
        ]
    }


def _van(rng: random.Random) -> dict[str, Any]:
    starts = (7.0, 9.2, 11.3, 13.6, 15.8)
    return {
        "trips": [
            _trip(
                WORKDAYS,
                _clock(rng, at, at + 0.5),
                rng.randint(15, 35),
                route="town",
                spread="9m",
                chance=0.9,
            )
            for at in starts
        ]
    }


def _family(rng: random.Random) -> dict[str, Any]:
    return {
        "trips": [
            _trip(
                WORKDAYS, _clock(rng, 7.4, 8.2), rng.randint(11, 20), route="town", spread="5m", chance=0.85
            ),
            _trip(
                WORKDAYS, _clock(rng, 15.2, 17), rng.randint(12, 25), route="town", spread="20m", chance=0.85
            ),
            _trip(
                ["sat"], _clock(rng, 9.5, 11), rng.randint(15, 40), route="commute", spread="30m", chance=0.9
            ),
            _trip(
                ["sun"], _clock(rng, 11, 14), rng.randint(25, 80), route="motorway", spread="40m", chance=0.5
            ),
        ]
    }


def _seldom(rng: random.Random) -> dict[str, Any]:
    return {
        "trips": [
            _trip(["tue"], _clock(rng, 10, 12), rng.randint(12, 20), route="town", spread="40m", chance=0.8),
            _trip(
                ["fri", "sun"],
                _clock(rng, 14, 17),
                rng.randint(25, 60),
                route="country",
                spread="40m",
                chance=0.6,
            ),
        ]
    }


def _run(days: list[str], at: str, **more: Any) -> dict[str, Any]:
    return {"days": days, "at": at, "spread": "30m"} | more


def _washing(rng: random.Random) -> dict[str, Any]:
    week = rng.sample(["mon", "tue", "wed", "thu", "fri", "sat", "sun"], rng.randint(2, 6))
    runs = [
        _run([day], _clock(rng, 8, 20.5), program=rng.choice(("mixed_40", "eco_40_60")), chance=0.85)
        for day in week
    ]
    if rng.random() < 0.9:
        runs[0] = _run([week[0]], _clock(rng, 9, 19), program="cotton_60", chance=0.85)
    return {"runs": runs}


def _dishes(rng: random.Random) -> dict[str, Any]:
    week = rng.sample(["mon", "tue", "wed", "thu", "fri", "sat", "sun"], rng.randint(3, 7))
    usual = rng.choice(("eco_50", "eco_50", "auto_60"))
    return {"runs": [_run([day], _clock(rng, 19, 21), program=usual, chance=0.9) for day in week]}


def _drinking(rng: random.Random) -> dict[str, Any]:
    milk = "milk" if rng.random() < 0.6 else ""
    everyday = [*WORKDAYS, "sat", "sun"]
    runs = [_run(everyday, _clock(rng, 6.5, 8.5), program=milk, count=rng.randint(1, 3), chance=0.95)]
    if rng.random() < 0.7:
        runs.append(_run(everyday, _clock(rng, 12.5, 16), program="", count=rng.randint(1, 2), chance=0.7))
    return {"runs": runs}


HABITS: Mapping[str, Draw] = {
    "commuter": _commuter,
    "van": _van,
    "family": _family,
    "seldom": _seldom,
    "washing": _washing,
    "dishes": _dishes,
    "drinking": _drinking,
    "always_on": lambda _: {},
}
"""How members of a group use what they have."""


# --- events -------------------------------------------------------------------------------------------


def _with_events(scenario: Scenario, device: DevicePart, events: list[EventPart], seed: int) -> DevicePart:
    """What the scenario's events do to a device."""
    changes: dict[str, Any] = {}
    for number, event in enumerate(events):
        rng = random.Random(f"{seed}/{device.id}/event/{number}")
        if not _concerns(event, device) or rng.random() >= event.share:
            continue
        for field, value in _effect(event, device, rng):
            changes.setdefault(field, list(getattr(device, field)) if isinstance(value, list) else value)
            if isinstance(value, list):
                changes[field] = [*changes[field], *value]
            else:
                changes[field] = value
    return device.model_copy(update=changes) if changes else device


def _concerns(event: EventPart, device: DevicePart) -> bool:
    return (
        (event.kind is None or event.kind == device.kind)
        and (not event.models or device.model in event.models)
        and (not event.devices or device.id in event.devices)
    )


def _effect(event: EventPart, device: DevicePart, rng: random.Random) -> Iterator[tuple[str, Any]]:
    end = event.at + timedelta(milliseconds=event.lasts)
    if event.what == "outage":
        order = rng.random() < event.in_order
        yield "gaps", [GapPart(begin=event.at, end=end, lost=event.lost, in_order=order)]
    elif event.what == "recall":
        yield "recalled", event.at
    elif event.what == "firmware":
        within = event.at + timedelta(milliseconds=round(event.lasts * rng.random()))
        yield "updates", [UpdatePart(version=event.version or "1.0.0", at=within)]
        if event.trouble is not None:
            until = event.mended or scenario_end(device, event)
            yield "troubles", [event.trouble.model_copy(update={"begin": within, "end": until})]
        if event.fault is not None:
            yield "faults", [FaultPart(fault=event.fault, onset=within, over=f"{event.course // 3_600_000}h")]
    elif event.what == "trouble" and event.trouble is not None:
        yield "troubles", [event.trouble.model_copy(update={"begin": event.at, "end": end})]
    elif event.what == "journey":
        yield "away", [AwayPart(to=event.to or "basel", leave=event.at, back=end, hours=event.hours)]
    elif event.what == "fault" and event.fault is not None:
        at = event.at + timedelta(days=rng.uniform(0, event.lasts / 86_400_000))
        yield "faults", [FaultPart(fault=event.fault, onset=at, over=f"{event.course // 3_600_000}h")]


def scenario_end(device: DevicePart, event: EventPart) -> datetime:
    """Long after any scenario."""
    return event.at + timedelta(days=3650)


def midnight(day: date) -> datetime:
    """Its beginning."""
    return datetime.combine(day, time())
