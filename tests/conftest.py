"""Fixtures that every test may use; what they start is described in real_parts.py."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import argon2
import pytest
import structlog
from real_parts import ROOT, Influx, Mosquitto, VictoriaMetrics, end, free_port, listens, need, wait_until

from gateway.flow import accounts

# Compiled once for all the processes that tests start, also where the environment says not to keep what was
# compiled: each of them would take seconds longer.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

PROCESSES_A_CORE = 2
"""That share the work: what tests wait for, a browser or a played clock, leaves half of every core idle."""

LONGEST = (
    "tests/e2e/test_story.py",
    "tests/integration/test_demo.py",
    "tests/chaos/test_kill.py",
    "tests/integration/test_errors.py",
    "tests/e2e/",
    "tests/integration/test_reload.py",
    "tests/integration/test_roles.py",
    "tests/integration/test_trips.py",
    "tests/chaos/",
    "tests/integration/test_promises.py",
    "tests/integration/test_cli.py",
    "tests/integration/test_api_fuzz.py",
    "tests/integration/test_api_schemathesis.py",
    "tests/test_packaging.py",
    "tests/integration/test_other_forms.py",
    "tests/unit/test_rules_property.py",
    "tests/unit/test_sound_cars.py",
    "tests/unit/test_rules_time.py",
)


def pytest_xdist_auto_num_workers() -> int:
    """For ``-n auto``; PYTEST_XDIST_AUTO_NUM_WORKERS says otherwise."""
    asked = os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(asked) if asked else PROCESSES_A_CORE * cores


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where processes share the work by file, the longest files come first, so that all end together."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=rank)


def rank(item: pytest.Item) -> int:
    """The place in LONGEST, behind it for all others."""
    return next((n for n, name in enumerate(LONGEST) if item.nodeid.startswith(name)), len(LONGEST))


@pytest.fixture(autouse=True)
def logging_of_its_own() -> Iterator[None]:
    """A command that ran in this process has set logging to a stream that is closed when its test is over."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session", autouse=True)
def shipped_hasher() -> Iterator[argon2.PasswordHasher]:
    """What hashes passwords; tests hash theirs with the least that Argon2 can do: it is slow on purpose."""
    shipped = accounts.HASHER
    accounts.HASHER = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    yield shipped
    accounts.HASHER = shipped


@pytest.fixture
def start_mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Mosquitto]]:
    """Starts brokers: ``start_mosquitto(persistence=True, options="…")``."""
    brokers: list[Mosquitto] = []

    def start(*, persistence: bool = False, options: str = "") -> Mosquitto:
        broker = Mosquitto(
            folder=tmp_path_factory.mktemp("mosquitto"), persistence=persistence, options=options
        )
        brokers.append(broker)
        return broker.start()

    yield start
    for broker in brokers:
        broker.stop()


@pytest.fixture
def mosquitto(start_mosquitto: Callable[..., Mosquitto]) -> Mosquitto:
    """One running broker."""
    return start_mosquitto()


@pytest.fixture
def victoria_metrics(tmp_path: Path) -> Iterator[VictoriaMetrics]:
    program = need("victoria-metrics", "victoria-metrics")
    port, folder = free_port(), tmp_path / "victoria-metrics"
    folder.mkdir()
    with open(folder / "log", "ab") as log:
        process = subprocess.Popen(
            [
                program,
                f"-httpListenAddr=127.0.0.1:{port}",
                f"-storageDataPath={folder}",
                "-retentionPeriod=100y",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: process.poll() is not None or listens(port), "victoria-metrics opens its port")
        assert process.poll() is None, (folder / "log").read_text(errors="replace")
        yield VictoriaMetrics(url=f"http://127.0.0.1:{port}")
    finally:
        end(process)


@pytest.fixture(scope="session")
def influx() -> Influx:
    """From TOUCHPOINT_TEST_INFLUX_URL, _TOKEN and _ORG."""
    url = os.environ.get("TOUCHPOINT_TEST_INFLUX_URL")
    if not url:
        pytest.skip("no InfluxDB: set TOUCHPOINT_TEST_INFLUX_URL, _TOKEN and _ORG to test against a real one")
    return Influx(
        url=url,
        token=os.environ.get("TOUCHPOINT_TEST_INFLUX_TOKEN", ""),
        org=os.environ.get("TOUCHPOINT_TEST_INFLUX_ORG", ""),
    )


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the browser, for Playwright's ``executable_path``."""
    return need("chromium", "chromium")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Recorded trips and test vectors, which live beside the checkout and are not part of it."""
    folder = Path(os.environ.get("TOUCHPOINT_SHARED", ROOT.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(
            "recorded data not found: expected beside the checkout in shared/data, or under TOUCHPOINT_SHARED"
        )
    return folder
