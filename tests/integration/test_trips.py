"""85 real trips of a car without a fault go through the running gateway."""

import csv
import gzip
import json
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any

from real_parts import Mosquitto
from running_gateway import running_gateway


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def value(text: str) -> Any:
    """What a cell means: JSON where it is JSON, else text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def recorded(path: Path) -> tuple[str, int, dict[str, dict[int, Any]]]:
    """(device, messages, {signal: {ts: value}}); of the same moment the later row counts."""
    signals: dict[str, dict[int, Any]] = defaultdict(dict)
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        for name, cell in row.items():
            if name not in ("device", "ts") and cell:
                signals[name][ms(row["ts"])] = value(cell)
    return rows[0]["device"], len(rows), signals


def test_every_reading_of_85_trips_can_be_read_back_and_nothing_is_found(
    shared_data: Path, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    file = shared_data / "car_trips" / "readings.csv.gz"
    device, messages, sent = recorded(file)
    assert len(set(sent["trip"].values())) == 85
    with running_gateway(tmp_path, mosquitto.url) as lab:
        lab.start()
        lab.owner("driver", [device])
        replayed = lab.command("sim", "replay", file, "--broker", mosquitto.url)
        assert json.loads(replayed.stdout.splitlines()[-1])["messages"] == messages
        for step in ("recorded", "assessed"):
            lab.until_total(f"touchpoint_messages_{step}_total", messages)
        for name, readings in sent.items():
            got = [(ms(ts), value) for ts, value in lab.readings(device, name)]
            assert got == sorted(readings.items()), name
        assert lab.total("touchpoint_messages_recorded_total") == messages
        assert lab.total("touchpoint_messages_quarantined_total") == 0
        assert lab.total("touchpoint_points_refused_total") == 0
        assert lab.total("touchpoint_rule_errors_total") == 0
        assert lab.total("touchpoint_findings_total") == 0
        assert [line for line in lab.all("owners/driver/ledger") if line["finding"]] == []
        assert lab.all(f"touchpoints?device={device}") == []
