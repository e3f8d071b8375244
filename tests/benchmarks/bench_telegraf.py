"""What an operator might pick instead: Telegraf into the same InfluxDB, in turns with the gateway.

Telegraf carries the same messages from the same kind of broker to the same InfluxDB, without a journal and
without rules; CPU is read over the process tree of each. Two figures of one run tell more than a figure of
one machine and a limit of another. TOUCHPOINT_BENCH_TELEGRAF names its program (from its source: `go build
-tags custom,inputs.mqtt_consumer,outputs.influxdb_v2,parsers.json ./cmd/telegraf`), and
TOUCHPOINT_TEST_INFLUX_URL, _TOKEN and _ORG an InfluxDB 2.x.
"""

import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench_ingest import MESSAGES, TOTALS, WARM, influx, publish, rules
from gateway_lab import GatewayProcess, cpu_of, wait_for
from real_parts import Mosquitto, end

TELEGRAF = os.environ.get("TOUCHPOINT_BENCH_TELEGRAF", "")
RUNS = 3
CONFIG = """[agent]
flush_interval = "1s"
metric_batch_size = 5000
metric_buffer_limit = 300000
omit_hostname = true
debug = true

[[inputs.mqtt_consumer]]
servers = ["tcp://127.0.0.1:{port}"]
topics = ["touchpoint/v1/+/telemetry"]
qos = 1
persistent_session = true
client_id = "telegraf"
max_undelivered_messages = 10000
data_format = "json"
json_time_key = "ts"
json_time_format = "unix_ms"

[[outputs.influxdb_v2]]
urls = ["{TOUCHPOINT_TIMESERIES__URL}"]
token = "{TOUCHPOINT_TIMESERIES__TOKEN}"
organization = "{TOUCHPOINT_TIMESERIES__ORG}"
bucket = "{TOUCHPOINT_TIMESERIES__BUCKET}"
"""
WROTE = re.compile(r"Wrote batch of (\d+) metrics")


@contextlib.contextmanager
def telegraf(folder: Path, broker: Mosquitto) -> Iterator[tuple[int, str]]:
    """(pid, path of its log), with the bucket in place; ended afterwards."""
    config, log = folder / "telegraf.conf", folder / "telegraf.log"
    config.write_text(CONFIG.format(port=broker.port, **influx()))
    with log.open("wb") as file:
        process = subprocess.Popen([TELEGRAF, "--config", str(config)], stdout=file, stderr=file)
    try:
        wait_for(lambda: "Connected [tcp" in log.read_text(), f"Telegraf is connected; its log: {log}")
        yield process.pid, str(log)
    finally:
        end(process)


def written(log: str) -> int:
    """Messages that Telegraf has written by now."""
    return sum(int(count) for count in WROTE.findall(Path(log).read_text()))


def of_telegraf(run: int) -> tuple[float, float]:
    """CPU µs a message, and mosquitto's."""
    with tempfile.TemporaryDirectory() as made:
        broker = Mosquitto(folder=Path(made)).start()
        assert broker.process is not None
        try:
            with telegraf(Path(made), broker) as (pid, log):
                publish(broker.port, WARM, f"car-warm-{run}-")
                wait_for(lambda: written(log) >= WARM, "warm", 120)
                cpu, brokers = cpu_of(pid), cpu_of(broker.process.pid)
                publish(broker.port, MESSAGES, f"car-t{run}-")
                wait_for(lambda: written(log) >= WARM + MESSAGES, "Telegraf has written all", 300)
                spent = cpu_of(pid) - cpu, cpu_of(broker.process.pid) - brokers
        finally:
            broker.stop()
    return spent[0] / MESSAGES * 1e6, spent[1] / MESSAGES * 1e6


def of_the_gateway(run: int) -> tuple[float, float]:
    """CPU µs a message, and mosquitto's."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        broker = Mosquitto(folder=folder).start()
        assert broker.process is not None
        settings = {
            **influx(),
            "TOUCHPOINT_DEVICES__KINDS": '{"car-*": "car"}',
            "TOUCHPOINT_RULES__PATHS": json.dumps(["@default", str(rules(folder))]),
        }
        gateway = GatewayProcess(folder=folder, broker=broker.url, settings=settings)
        try:
            gateway.run("setup")
            gateway.start()
            publish(broker.port, WARM, f"car-warm-{run}-")
            for name in TOTALS:
                wait_for(lambda n=name: gateway.total(n) >= WARM, "warm")
            cpu, brokers = gateway.cpu(), cpu_of(broker.process.pid)
            publish(broker.port, MESSAGES, f"car-g{run}-")
            for name in TOTALS:
                wait_for(lambda n=name: gateway.total(n) >= WARM + MESSAGES, name, 300)
            spent = gateway.cpu() - cpu, cpu_of(broker.process.pid) - brokers
        finally:
            gateway.stop()
            broker.stop()
    return spent[0] / MESSAGES * 1e6, spent[1] / MESSAGES * 1e6


def report(name: str, value: float, unit: str, how: str) -> None:
    print(json.dumps({"name": name, "value": round(value, 2), "unit": unit, "how": how}), flush=True)


def main() -> None:
    first = of_the_gateway(0)  # its `touchpoint setup` creates the bucket
    pairs = [(of_telegraf(run), of_the_gateway(run) if run else first) for run in range(RUNS)]
    how = f"median of {RUNS} runs in turns, {MESSAGES:,} messages, 1,000 devices, QoS 1, into one InfluxDB"
    for name, column in (("telegraf", 0), ("gateway", 1)):
        report(f"{name}_cpu", statistics.median(pair[column][0] for pair in pairs), "us", how)
        report(
            f"{name}_broker_cpu",
            statistics.median(pair[column][1] for pair in pairs),
            "us",
            "mosquitto's own",
        )
    ratio = statistics.median(gateway[0] / peer[0] for peer, gateway in pairs)
    report(
        "gateway : telegraf", ratio, "ratio of CPU a message", f"{how}; the gateway with journal and rules"
    )


if __name__ == "__main__":
    if TELEGRAF and os.environ.get("TOUCHPOINT_TEST_INFLUX_URL"):
        main()
    else:
        print(
            "not measured: TOUCHPOINT_BENCH_TELEGRAF or TOUCHPOINT_TEST_INFLUX_URL names nothing to measure",
            file=sys.stderr,
        )
