"""CPU of the whole gateway a message: received, journalled, 50 rules more than the shipped ones, recorded.

The gateway is a process as users run it, the broker is mosquitto, the publisher a process of its own. CPU is
read from /proc over the gateway's process tree; that of mosquitto in the same runs is printed beside it, so
that figures of two machines, or of one at two hours, can be compared. Into InfluxDB too where
TOUCHPOINT_TEST_INFLUX_URL, _TOKEN and _ORG name one. `TOUCHPOINT_BENCH_MESSAGES` sets how many (200,000).
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gateway_lab import GatewayProcess, cpu_of, wait_for
from real_parts import Mosquitto

PUBLISHER = Path(__file__).resolve().parent.parent / "publisher.py"
MESSAGES = int(os.environ.get("TOUCHPOINT_BENCH_MESSAGES", "200000"))
WARM = 20_000
RUNS = 3
CONDITIONS = ("speed >= 119", "coolant_temperature >= 99", "pad_wear_front >= 69", "battery_voltage >= 13.9")
RULE = """- id: bench-{n:02d}
  version: 1
  kind: car
  purpose: maintenance
  severity: advice
  when: {condition}{n:02d}
  for: {seconds}s
  touchpoint: {{kind: appointment, service: brakes-front, expires: 14d}}
"""


def rules(folder: Path) -> Path:
    """Fifty rules that become true and false all the time, and never for long enough."""
    path = folder / "bench-rules.yaml"
    made = []
    for n in range(50):
        condition = CONDITIONS[n % len(CONDITIONS)]
        made.append(
            RULE.format(n=n, condition=condition + ("" if "." in condition else "."), seconds=600 + n)
        )
    path.write_text("".join(made))
    return path


def influx() -> dict[str, str]:
    return {
        "TOUCHPOINT_TIMESERIES__KIND": "influxdb",
        "TOUCHPOINT_TIMESERIES__URL": os.environ["TOUCHPOINT_TEST_INFLUX_URL"],
        "TOUCHPOINT_TIMESERIES__TOKEN": os.environ["TOUCHPOINT_TEST_INFLUX_TOKEN"],
        "TOUCHPOINT_TIMESERIES__ORG": os.environ["TOUCHPOINT_TEST_INFLUX_ORG"],
        "TOUCHPOINT_TIMESERIES__BUCKET": "bench",
    }


def publish(port: int, count: int, prefix: str) -> None:
    start = time.time_ns() // 1_000_000 - 1000 * (count // 1000 + 60)
    arguments = [sys.executable, str(PUBLISHER), str(port), str(count), prefix, str(start)]
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)


def measure(gateway: GatewayProcess, broker: Mosquitto, run: int) -> tuple[float, float, float]:
    """(CPU µs a message, mosquitto's, messages a second from the first publish to the last record)."""
    assert broker.process is not None
    before = [gateway.total(name) for name in TOTALS]
    cpu, brokers, began = gateway.cpu(), cpu_of(broker.process.pid), time.monotonic()
    publish(broker.port, MESSAGES, f"car-{run}-")
    for name, old in zip(TOTALS, before, strict=True):
        wait_for(lambda n=name, o=old: gateway.total(n) >= o + MESSAGES, name, 300)
    seconds = time.monotonic() - began
    spent = gateway.cpu() - cpu, cpu_of(broker.process.pid) - brokers
    return spent[0] / MESSAGES * 1e6, spent[1] / MESSAGES * 1e6, MESSAGES / seconds


TOTALS = ("touchpoint_messages_recorded_total", "touchpoint_messages_assessed_total")


def bench(name: str, limit: float, settings: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        broker = Mosquitto(folder=folder).start()
        gateway = GatewayProcess(
            folder=folder,
            broker=broker.url,
            settings={
                **settings,
                "TOUCHPOINT_DEVICES__KINDS": '{"car-*": "car"}',
                "TOUCHPOINT_RULES__PATHS": json.dumps(["@default", str(rules(folder))]),
            },
        )
        try:
            gateway.run("setup")
            gateway.start()
            publish(broker.port, WARM, "car-warm-")
            wait_for(lambda: gateway.total(TOTALS[0]) >= WARM, "warm")
            taken = [measure(gateway, broker, run) for run in range(RUNS)]
        finally:
            gateway.stop()
            broker.stop()
    cpu, brokers, rate = (sorted(column)[RUNS // 2] for column in zip(*taken, strict=True))
    how = f"median of {RUNS} runs of {MESSAGES:,} messages, 1,000 devices, mosquitto, QoS 1, process tree"
    print(
        json.dumps(
            {"name": f"ingest_{name}_cpu", "value": round(cpu, 1), "unit": "us", "limit": limit, "how": how}
        )
    )
    beside = "mosquitto's own, in the same runs"
    print(
        json.dumps(
            {"name": f"ingest_{name}_broker_cpu", "value": round(brokers, 1), "unit": "us", "how": beside}
        )
    )
    print(json.dumps({"name": f"ingest_{name}_rate", "value": round(rate), "unit": "messages/s", "how": how}))


if __name__ == "__main__":
    bench("embedded", 14, {})
    if os.environ.get("TOUCHPOINT_TEST_INFLUX_URL"):
        bench("influxdb", 10, influx())
    else:
        print("no InfluxDB: set TOUCHPOINT_TEST_INFLUX_URL, _TOKEN and _ORG to measure it", file=sys.stderr)
