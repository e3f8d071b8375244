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
        work = work.func
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

    SqlDatabase.write = writing  # type: ignore[method-assign]
    Deliverer._send = sending  # type: ignore[method-assign]
    Call.write = calling  # type: ignore[method-assign]


if __name__ == "__main__":
    install()
    sys.exit(main(sys.argv[1:]))
