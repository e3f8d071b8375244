"""Ctrl-C ends a gateway at whatever moment it comes, also where libraries swallow it."""

import argparse
import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway import app, demo
from gateway.app import ended, run_command, undisturbed


def swallowing(*_: Any) -> None:
    """As a library in C: what Ctrl-C raises in a callback goes no further."""
    with contextlib.suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


@pytest.fixture(autouse=True)
def usual_signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_it_comes_at_the_end_of_what_must_not_be_disturbed() -> None:
    reached = []

    def disturbed() -> None:
        with undisturbed():
            swallowing()
            reached.append("the end")

    with pytest.raises(KeyboardInterrupt):
        disturbed()
    assert reached == ["the end"]


@pytest.mark.parametrize(
    ("command", "place"),
    [(run_command, (app.configuration, "load")), (demo.demo_command, (demo, "demo_settings"))],
)
def test_no_command_goes_on_when_it_comes_while_settings_are_read(
    command: Callable[[argparse.Namespace], int], place: tuple[Any, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(*place, swallowing)
    for module in (app, demo):
        monkeypatch.setattr(module, "set_up_logging", lambda _: None)
    monkeypatch.setattr(app.uvloop, "run", lambda work: work.close() or pytest.fail("it went on"))
    with pytest.raises(KeyboardInterrupt):
        command(argparse.Namespace(config=None, role="all", headless=True))


async def test_tasks_end_that_lose_a_cancellation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "CANCEL_AGAIN_S", 0.01)
    lost = 0

    async def losing() -> None:
        nonlocal lost
        while lost < 3:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost += 1
        await asyncio.Event().wait()

    async def broken() -> None:
        raise OSError("away")

    tasks = [asyncio.create_task(work()) for work in (losing, broken)]
    await asyncio.sleep(0)
    await asyncio.wait_for(ended(tasks), 30)
    assert lost == 3
    assert tasks[0].cancelled()
    await ended([])
