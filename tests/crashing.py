"""`touchpoint`, which ends itself by SIGKILL at one labelled step of its own work.

    python crashing.py run

TOUCHPOINT_TEST_CRASH names the step; empty: none. Steps are where something has been written but not
committed ("…: written"), where it has just been committed ("…: committed"), and around everything that leaves
the house ("web_push: sending", "web_push: sent"). A write is named after the function that does it, and the
request that asked for it, so that new ones have a label without anybody naming them. Nothing counts before
the file exists that TOUCHPOINT_TEST_STEPS names; it is then told every step once.
"""

import contextvars
import functools
import os
import re
import signal
import sys
from collections.abc import Callable
from typing import Any

from firmware_api import rollouts, sending, store, uploads
from firmware_api.line import Line
from firmware_api.store import FirmwareStore
from gateway.adapters.database.engine import SqlDatabase
from gateway.cli import main
from gateway.domain.delivery import Delivery
from gateway.flow.deliver import Deliverer
from gateway.web.api.endpoint import Call

CRASH = os.environ.get("TOUCHPOINT_TEST_CRASH", "")
STEPS = os.environ.get("TOUCHPOINT_TEST_STEPS", "")
NOISE = re.compile(r"\.<locals>|<lambda>|\bwork\b")
_told: set[str] = set()


_request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="")


def step(label: str) -> None:
    """We have come by here."""
    if not os.path.exists(STEPS):
        return
    if label not in _told:
        _told.add(label)
        with open(STEPS, "a") as steps:
            steps.write(label + "\n")
    if label == CRASH:
        os.kill(os.getpid(), signal.SIGKILL)


def named(work: Callable[..., Any]) -> str:
    """What a write is called: the function that does it, with its file."""
    while isinstance(work, functools.partial):
        work = next((given for given in reversed(work.args) if callable(given)), work.func)
    module = str(getattr(work, "__module__", "")).rsplit(".", 1)[-1]
    name = NOISE.sub("", getattr(work, "__qualname__", type(work).__qualname__)).strip(".")
    return f"{module}.{name}"


def install() -> None:
    """Put a step before and after every commit, and before and after every sending."""
    write, send, call = SqlDatabase.write, Deliverer._send, Call.write

    async def writing(self: SqlDatabase, work: Callable[..., Any]) -> Any:
        label = f"{named(work)} {_request.get()}".strip()

        def written(records: Any) -> Any:
            result = work(records)
            step(f"{label}: written")
            return result

        result = await write(self, written)
        step(f"{label}: committed")
        return result

    async def calling(self: Call, *arguments: Any) -> Any:
        resource = self.request.match_info.route.resource
        _request.set(f"{self.request.method} {resource.canonical if resource else self.request.path}")
        return await call(self, *arguments)

    async def sending(self: Deliverer, delivery: Delivery) -> Any:
        step(f"{delivery.channel}: sending")
        outcome = await send(self, delivery)
        step(f"{delivery.channel}: sent")
        return outcome

    install_firmware()
    SqlDatabase.write = writing  # type: ignore[method-assign]
    Deliverer._send = sending  # type: ignore[method-assign]
    Call.write = calling  # type: ignore[assignment, method-assign]


_deeds: list[str] = []
"""What a rollout's step has done in this transaction: most of them do nothing."""


def install_firmware() -> None:
    """The same for firmware: its own commits, and what happens to files on their way in and out."""
    call, store_write = Line.__call__, FirmwareStore.write

    async def writing(self: Line, work: Callable[..., Any]) -> Any:
        if self._visit != self._write:
            return await call(self, work)
        labels = [named(work)]
        result = await call(self, functools.partial(_written, work, labels))
        step(f"{labels[0]}: committed")
        return result

    def storing(self: FirmwareStore, work: Callable[..., Any]) -> Any:
        labels = [named(work)]
        result = store_write(self, functools.partial(_written, work, labels))
        step(f"{labels[0]}: committed")
        return result

    Line.__call__ = writing  # type: ignore[method-assign]
    FirmwareStore.write = storing  # type: ignore[method-assign]
    for deed in ("_begin_group", "_offer", "_stop", "_finish"):
        _around(rollouts, deed, after=lambda deed=deed: _deeds.append(deed.strip("_")))  # type: ignore[misc]
    _around(uploads, "_write", before=_step("a piece: arrived"), after=_step("a piece: written"))
    _around(store, "digest", after=_step("an artifact: read back"))
    _around(store, "sync_folder", before=_step("an artifact: in its place"))
    _around(sending, "_pump", before=_step("a download: sending"), after=_step("a download: sent"))


def _written(work: Callable[..., Any], labels: list[str], connection: Any) -> Any:
    _deeds.clear()
    result = work(connection)
    labels[0] = " ".join((labels[0], *dict.fromkeys(_deeds)))
    step(f"{labels[0]}: written")
    return result


def _step(label: str) -> Callable[[], object]:
    return lambda: step(label)


def _around(
    module: Any, name: str, *, before: Callable[[], object] = int, after: Callable[[], object] = int
) -> None:
    real = getattr(module, name)

    @functools.wraps(real)
    def around(*arguments: Any, **options: Any) -> Any:
        before()
        result = real(*arguments, **options)
        after()
        return result

    setattr(module, name, around)


if __name__ == "__main__":
    install()
    sys.exit(main(sys.argv[1:]))
