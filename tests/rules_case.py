"""Words for tests of the rules: a small catalogue, and a device that is watched."""

from __future__ import annotations

from rules import Catalogue, Cleared, Engine, Found, RuleSet, Value, load, span_ms

SIGNALS = """
kind: van
label: {en: Van, de: Transporter}
signals:
  speed: {unit: km/h, vss: Vehicle.Speed, range: [0, 250], label: {en: Speed, de: Tempo}}
  wheel_speed: {unit: m/s, label: {en: Wheel, de: Rad}}
  temperature: {unit: °C, range: [-40, 150], label: {en: Temperature, de: Temperatur}}
  pads: {unit: percent, range: [0, 100], label: {en: Pads, de: Beläge}, counter: true}
  voltage: {unit: V, label: {en: Voltage, de: Spannung}}
  runtime: {unit: min, label: {en: Runtime, de: Laufzeit}}
  door_open: {type: boolean, label: {en: Door, de: Tür}}
  gear: {type: string, values: [park, drive, reverse], label: {en: Gear, de: Gang}}
  dtc: {type: codes, label: {en: Codes, de: Codes}}
"""

PLACES = """
kind: van
signals:
  latitude: {unit: °, label: {en: Latitude, de: Breite}}
  longitude: {unit: °, label: {en: Longitude, de: Länge}}
"""
ZONES = """
zones:
  yard: {centre: [52.0, 13.0], radius_km: 10}
  field: {corners: [[48.0, 9.0], [48.0, 9.5], [48.5, 9.5], [48.5, 9.0]]}
"""
CATALOGUE = Catalogue.parse([("van.yaml", SIGNALS), ("places.yaml", PLACES), ("zones.yaml", ZONES)])
VAN = CATALOGUE.kinds["van"]
NOON = 1_767_268_800_000


def rule(when: str, *, id: str = "rule", **fields: str) -> str:
    """One rule as YAML; further fields as they are written there."""
    given = {
        "id": id, "version": "1", "kind": "van", "purpose": "maintenance", "severity": "advice",
        "when": f'"{when}"', "touchpoint": "{kind: notice}",
    }  # fmt: skip
    for key, value in fields.items():
        given[key.rstrip("_")] = value
    return "- " + "\n  ".join(f"{key}: {value}" for key, value in given.items()) + "\n"


def ruleset(*texts: str) -> RuleSet:
    return load([("van-rules.yaml", "".join(texts))], CATALOGUE)


def ms(moment: str) -> int:
    """Noon plus a span."""
    span = span_ms(moment)
    assert span is not None
    return NOON + span


class Watched:
    """One van, `van-1`, under rules. Times are spans after noon, such as "90s"."""

    def __init__(self, *rules: str, engine: Engine | None = None) -> None:
        self.engine = engine or Engine(ruleset(*rules))
        self.position = 0

    def says(self, at: str, *, received: str | None = None, **signals: Value) -> Watched:
        """It reports at a time, and that arrives at once or later."""
        self.position += 1
        self.engine.readings(self.position, ms(received or at), "van-1", "van", [(ms(at), signals)])
        return self

    def silence_until(self, received: str) -> Watched:
        """Time passes without a message; what falls due is ticked."""
        while (due := self.engine.next_due()) is not None and due <= ms(received):
            self.position += 1
            self.engine.tick(self.position, due)
        return self

    def reset(self, at: str, *signals: str) -> Watched:
        self.position += 1
        self.engine.reset(self.position, ms(at), "van-1", signals)
        return self

    def restarted(self) -> Watched:
        """Go on in another process."""
        states = list(self.engine.dirty())
        self.engine = Engine(self.engine.rules)
        for device, state in states:
            self.engine.restore(device, state)
        return self

    def events(self) -> list[Found | Cleared]:
        return self.engine.take()

    def story(self) -> list[tuple[str, str]]:
        """("found" or "cleared", span after noon in seconds) in order."""
        return [
            ("found", f"{(event.found_ts - NOON) / 1000:g}s")
            if isinstance(event, Found)
            else ("cleared", f"{(event.ts - NOON) / 1000:g}s")
            for event in self.events()
        ]
