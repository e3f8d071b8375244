"""receive alone, as a process that can be killed: from a broker into a journal that nobody reads.

    python receiver.py BROKER_URL FOLDER

Acknowledgements wait a quarter of a second after each commit, so that a kill finds messages which are
journalled, and which the broker will send again. Says what it has counted as often as it changes.
"""

import asyncio
import json
import random
import sys
from pathlib import Path

import structlog

from gateway.adapters.clock import SystemClock
from gateway.adapters.journal import SqliteJournal
from gateway.adapters.mqtt import Broker, MqttSource
from gateway.domain.counters import Counters
from gateway.flow.receive import FAR_BEHIND, receive


async def say(counters: Counters) -> None:
    said = ""
    while True:
        now = json.dumps({"journaled": counters.journaled, "redelivered": counters.redelivered})
        if now != said:
            print(said := now, flush=True)
        await asyncio.sleep(0.02)


async def main(url: str, folder: Path) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    counters, clock = Counters(), SystemClock()
    source = MqttSource(
        Broker(url=url, client_id="receiver"),
        counters=counters,
        random=random.random,
        receive_maximum=500,
        batch_messages=100,
        session_file=folder / "session.json",
    )
    async with (
        SqliteJournal(folder / "journal.db", readers=["nobody"]) as journal,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(source.run())
        group.create_task(say(counters))
        group.create_task(
            receive(
                source,
                journal,
                clock,
                counters,
                random=random.random,
                behind=lambda: FAR_BEHIND + 1,
            )
        )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
