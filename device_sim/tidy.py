"""A scenario as files: readings in the tidy form that `rules backtest` reads, the truth, and the register."""

from __future__ import annotations

import contextlib
import csv
import gzip
import heapq
import io
import json
import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from operator import itemgetter
from pathlib import Path
from typing import Any, TextIO, TypeAlias

from device_sim.fleet import Fleet
from device_sim.needs import Need
from device_sim.physics import electric_car
from device_sim.scenario import Scenario
from device_sim.wire import Reading

TELEMETRY = "/telemetry"
LISTS = ("dtc", "fault_codes")
"""Signals that are lists."""
LEVEL = 1
"""Compression: the next levels take much longer than the readings themselves."""


SIGNALS: dict[str, tuple[str, ...]] = {
    "car": (
        "speed", "engine_speed", "battery_voltage", "locked", "tyre_pressure_front_left",
        "tyre_pressure_front_right", "tyre_pressure_rear_left", "tyre_pressure_rear_right",
        "outside_temperature", "dtc", "window_driver_open", "days_since_delivery", "home_country",
        "tyre_set", "wiper_wear", "washer_fluid_low", "brake_fluid_low", "low_beam_defect",
        "brake_light_defect", "time_to_service", "distance_to_service", "lane_keeping_uses",
        "preheating_uses", "recall_open", "odometer", "pad_wear_front", "pad_wear_rear",
        "latitude", "longitude", "emission_sticker",
    ),
    "refrigerator": (
        "switched_on", "holiday_mode", "fridge_temperature", "fridge_setpoint",
        "freezer_temperature", "freezer_setpoint", "ambient_temperature", "evaporator_temperature",
        "condenser_excess", "compressor_on", "compressor_duty", "fan_speed", "power",
        "daily_energy", "days_since_filter", "water_since_filter", "fault_codes", "defrosting",
        "door_open",
    ),
    "heat_pump": (
        "mode", "compressor_on", "outside_temperature", "hot_water_temperature",
        "hot_water_setpoint", "heating_pressure", "compressor_starts", "compressor_hours",
        "days_since_inspection", "backup_heater_on", "defrosting", "fault_codes", "brine_pressure",
        "flow_temperature", "return_temperature", "superheat", "flow_rate", "low_pressure",
        "high_pressure", "power", "heat_output", "cop",
    ),
    "coffee_machine": (
        "state", "heat_up_time", "ready_time", "brew_pressure", "brew_temperature", "brew_time",
        "grinding_time", "grinder_current", "pump_power", "cups", "cups_brewed", "milk_cups",
        "milk_cups_since_rinse", "water_since_descale", "water_since_filter", "days_since_filter",
        "water_hardness", "drip_tray_full", "fault_codes",
    ),
    "washing_machine": (
        "state", "program", "wash_cycles", "washes_since_descale", "eco_washes",
        "washes_since_filter_clean", "door_seal_wear", "water_in_base", "water_temperature",
        "heating_power", "heating_rate", "water_inlet_time", "spin_speed", "vibration",
        "drain_time", "pump_current", "bearing_vibration", "fault_codes",
    ),
    "dishwasher": (
        "state", "program", "water_temperature", "heating_rate", "circulation_pump_speed",
        "spray_arm_speed", "turbidity", "water_inlet_time", "runs", "eco_runs",
        "runs_since_filter_clean", "runs_since_care", "salt_low", "rinse_aid_low", "water_hardness",
        "water_in_base", "drain_time", "drain_pump_current", "water_per_run", "energy_per_run",
        "fault_codes",
    ),
}  # fmt: skip
"""What devices of a kind report."""
COMBUSTION: tuple[str, ...] = (
    "engine_run_time", "module_voltage", "engine_load", "throttle", "map", "intake_air_temperature",
    "transmission_temperature", "oil_pressure", "long_fuel_trim", "short_fuel_trim", "mil_blinking",
    "coolant_temperature", "oil_level",
    "coolant_level", "minutes_mil_on", "fuel_level", "oil_wear", "fuel_consumption",
    "dpf_regenerating", "adblue_range", "adblue_low", "dpf_soot",
)  # fmt: skip
ELECTRIC: tuple[str, ...] = (
    "traction_battery_charge", "traction_battery_health", "cell_temperature_max",
    "cell_temperature_min", "cell_voltage_max", "cell_voltage_min", "charging", "charging_limit",
)  # fmt: skip


class Columns:
    """The signals of a fleet, in a fixed order: those of each kind as its devices first say them."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self._places = {name: place for place, name in enumerate(names)}
        self._blank = [""] * len(names)

    def header(self) -> list[str]:
        """Of the file."""
        return ["device", "ts", *(f"{name}[]" if name in LISTS else name for name in self.names)]

    def row(self, device: str, ts: int, signals: Mapping[str, Any]) -> str:
        """One line, without its end; none of our values needs quotes. A reading has few of the columns, so
        that only its own are looked at. Raises KeyError for a name that no column has."""
        cells, places = self._blank.copy(), self._places
        for name, value in signals.items():
            cells[places[name]] = _cell(value)
        return f"{device},{ts},{','.join(cells)}"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if type(value) is float:
        return repr(value)
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, list):
        return "|".join(map(str, value))
    return str(value)


def write(
    scenario: Scenario,
    seed: int,
    folder: Path,
    *,
    jobs: int = 1,
    told: Callable[[int, int], None] = lambda *_: None,
) -> dict[str, Any]:
    """Play a scenario without anybody who acts, and write what its devices sent:

    readings.csv.gz   device, ts, one column per signal (native messages only; noise is left out)
    events.csv        device, ts, kind: `need:<what>` where something begins to be due, `failure:<what>` where
                      it breaks or is overdue
    devices.csv       device, kind, model, time_zone, owner

    With several `jobs` the devices are shared out among processes; the files are the same.
    """
    folder.mkdir(parents=True, exist_ok=True)
    scenario = scenario.peopled(seed)
    columns = Columns(_signals(scenario))
    rows = 0
    needs: list[Need] = []
    parts = [Part(scenario, seed, columns, number, jobs) for number in range(jobs)]
    streams = [part.lines(needs) if jobs == 1 else part.elsewhere(needs) for part in parts]
    with packed(folder / "readings.csv.gz") as file:
        file.write(",".join(columns.header()) + "\n")
        for at, _, line in heapq.merge(*streams, key=itemgetter(0, 1)):
            file.write(line)
            rows += 1
            if rows % 50_000 == 0:
                told(at, rows)
    _write_csv(folder / "events.csv", ["device", "ts", "kind"], list(events(needs)))
    _write_csv(
        folder / "devices.csv",
        ["device", "kind", "model", "time_zone", "owner"],
        [[d.id, d.kind, d.model, scenario.part.time_zone, d.owner] for d in scenario.part.devices],
    )
    return {"rows": rows, "devices": len(scenario.part.devices), "needs": len(needs)}


Line: TypeAlias = tuple[int, int, str]
"""(ms at which it was sent, the device's place in the scenario, the line)"""
AT_ONCE = 1_000
"""Lines that one process hands to another together."""


class Part:
    """Every `of`-th device of a scenario."""

    def __init__(self, scenario: Scenario, seed: int, columns: Columns, number: int, of: int) -> None:
        whole = scenario.part.devices
        self._places = {device.id: place for place, device in enumerate(whole)}
        mine = scenario.part.model_copy(update={"devices": whole[number::of]})
        self._scenario, self._seed, self._columns = Scenario(mine), seed, columns

    def lines(self, needs: list[Need]) -> Iterator[Line]:
        """In order of time and place; its needs are added at the end."""
        fleet = Fleet(self._scenario, self._seed)
        for unit in fleet.units.values():
            unit.spoken = True
        row, place = self._columns.row, self._places
        for at, device, ts, signals in readings(fleet):
            yield at, place[device], row(device, ts, signals) + "\n"
        needs += [need for unit in fleet.units.values() for need in unit.needs.all]

    def elsewhere(self, needs: list[Need]) -> Iterator[Line]:
        """The same, from a process of its own."""
        forked = multiprocessing.get_context("fork")
        here, there = forked.Pipe(duplex=False)
        process = forked.Process(target=self._send, args=(there,), daemon=True)
        process.start()
        there.close()
        try:
            while (sent := here.recv())[0] == "lines":
                yield from sent[1]
            needs += sent[1]
        except EOFError as error:
            raise RuntimeError("a process that played devices has ended early") from error
        finally:
            here.close()
            process.terminate()
            process.join()

    def _send(self, there: Connection) -> None:
        needs: list[Need] = []
        gathered: list[Line] = []
        for line in self.lines(needs):
            gathered.append(line)
            if len(gathered) == AT_ONCE:
                there.send(("lines", gathered))
                gathered = []
        there.send(("lines", gathered))
        there.send(("needs", needs))


def readings(fleet: Fleet) -> Iterator[tuple[int, str, int, Mapping[str, Any]]]:
    """(ms at which it was sent, device, ts, signals) as the fleet sends them, up to the scenario's end; of
    one moment in the order of the devices."""
    end = fleet.scenario.end
    for message in fleet.history():
        for device, ts, signals in _rows(message.device, message.payload):
            yield fleet.scenario.start, device, ts, signals
    order = {device: number for number, device in enumerate(fleet.units)}
    now: list[tuple[int, tuple[int, str, int, Mapping[str, Any]]]] = []
    last = fleet.scenario.start
    while (at := fleet.next_at()) <= end:
        if at != last:
            yield from (row for _, row in sorted(now, key=itemgetter(0)))
            now, last = [], at
        for message in fleet.play():
            if message.topic.endswith(TELEMETRY):
                device = message.topic.split("/")[2]
                place = order.get(device, len(order))
                now += [(place, (at, *row)) for row in _rows(device, message.payload)]
    yield from (row for _, row in sorted(now, key=itemgetter(0)))


def _rows(device: str, said: Any) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
    if isinstance(said, Reading):
        yield device, said.ts, said.signals
    else:
        yield from _items(device, said)


def _items(device: str, payload: bytes) -> Iterator[tuple[str, int, dict[str, Any]]]:
    try:
        body = json.loads(payload)
        for item in body if isinstance(body, list) else [body]:
            yield device, int(item["ts"]), dict(item["signals"])
    except (ValueError, TypeError, KeyError):
        return  # noise, which a gateway would put into quarantine


def events(needs: list[Need]) -> Iterator[list[Any]]:
    """Rows of events.csv, by time."""
    rows = [(need.since, need.device, f"need:{need.what}") for need in needs if need.cause != "state"]
    rows += [
        (need.fails, need.device, f"failure:{need.what}")
        for need in needs
        if need.fails is not None and need.failed
    ]
    for ts, device, kind in sorted(rows):
        yield [device, rfc3339(ts), kind]


@contextlib.contextmanager
def packed(path: Path) -> Iterator[TextIO]:
    """A gzip file that is the same whenever and wherever it is written."""
    with (
        path.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=LEVEL, mtime=0) as file,
        io.TextIOWrapper(io.BufferedWriter(file, 1 << 20), encoding="utf-8", newline="\n") as text,
    ):
        yield text


def _write_csv(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _signals(scenario: Scenario) -> list[str]:
    """All names that the scenario's kinds of devices can say: of one device of each kind and make-up."""
    names: dict[str, None] = {}
    for kind, model in sorted({(device.kind, device.model) for device in scenario.part.devices}):
        names |= dict.fromkeys(SIGNALS[kind])
        if kind == "car":
            names |= dict.fromkeys(ELECTRIC if model in electric_car.MODELS else COMBUSTION)
    return list(names)


def rfc3339(ms: int) -> str:
    """UTC, with milliseconds."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
