"""Mail comes in by SMTP and by a pipe; too much of it, or none to be stored, never loses any."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiosmtplib
import pytest
from garage import MINUTE, World, open_world
from mail_lab import REPLIES, WORKSHOP_MAIL, Lab, open_lab
from real_parts import PATIENCE_S

from config import settings as configuration
from gateway import app
from gateway.adapters import mail_in
from gateway.adapters.mail_in import MailServer
from gateway.domain.appointment import AppointmentState
from gateway.flow.mail import MailboxFullError, receive_mail
from gateway.ports import DatabaseUnavailableError


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with open_world(tmp_path) as world:
        await world.drives()
        await world.parks()
        world.clock.advance(world.now + 10 * MINUTE)
        await world.found()
        async with open_lab(world) as opened:
            yield opened


def broken(number: int) -> bytes:
    return b"Message-ID: <broken.%d@x>\r\nSubject: %d\r\n\r\nno calendar\r\n" % (number, number)


async def state(world: World) -> AppointmentState:
    return await world.read(lambda records: records.workshops.appointments(owner="jana")[-1].state)


async def test_a_thousand_broken_mails_never_stop_a_good_one(lab: Lab) -> None:
    await lab.world.answers("book", slot=(await lab.world.touchpoint()).slots[0].id)
    invited = await lab.newest(WORKSHOP_MAIL)
    database, clock, policy = lab.world.database, lab.world.clock, lab.world.policy
    for number in range(1_000):
        await receive_mail(database, clock, policy, broken(number), [invited.organizer])
    await lab.replies(invited)
    assert await state(lab.world) is AppointmentState.CONFIRMED
    assert await lab.world.read(lambda records: records.calendars.waiting_mails(5_000)[0]) == 1_000


async def test_a_full_mailbox_sends_the_rest_back_for_later_and_takes_good_ones(lab: Lab) -> None:
    await lab.world.answers("book", slot=(await lab.world.touchpoint()).slots[0].id)
    invited = await lab.newest(WORKSHOP_MAIL)
    full = replace(lab.world.policy, mail_kept_most=10)
    lab.world.policy = full
    for number in range(10):
        await lab.mails_to_us(broken(number), invited.organizer)
    with pytest.raises(aiosmtplib.SMTPDataError) as refused:
        await lab.mails_to_us(broken(11), invited.organizer)
    assert refused.value.code == 452
    await lab.replies(invited)
    assert await state(lab.world) is AppointmentState.CONFIRMED
    [row] = (await lab.world.read(lambda records: records.calendars.mails(waiting=True)))[:1]
    await lab.world.write(lambda records: records.calendars.see_mail(row.id, lab.world.now))
    await lab.mails_to_us(broken(11), invited.organizer)  # there is room again


async def test_waiting_mail_takes_only_so_much_room(lab: Lab) -> None:
    policy = replace(lab.world.policy, mail_kept_bytes=2_000)
    database, clock = lab.world.database, lab.world.clock
    await receive_mail(database, clock, policy, broken(1) + b"x" * 1_500, [REPLIES])
    with pytest.raises(MailboxFullError):
        await receive_mail(database, clock, policy, broken(2) + b"x" * 1_500, [REPLIES])
    await receive_mail(database, clock, policy, broken(3), [REPLIES])


@asynccontextmanager
async def server(error: Exception | None = None, max_bytes: int = 20_000) -> AsyncIterator[MailServer]:
    async def take(raw: bytes, recipients: Sequence[str]) -> None:
        if error is not None:
            raise error

    made = MailServer(host="127.0.0.1", port=0, take=take, ours=lambda address: True, max_bytes=max_bytes)
    listening = await made.start()
    try:
        yield made
    finally:
        listening.close()
        await listening.wait_closed()


async def send(made: MailServer, raw: bytes, *recipients: str) -> None:
    assert made.address is not None
    host, port = made.address
    async with aiosmtplib.SMTP(hostname=host, port=port, start_tls=False) as client:
        await client.sendmail("a@b.example", list(recipients) or ["x@y.example"], raw)


@pytest.mark.parametrize(
    ("error", "code"), [(DatabaseUnavailableError("away"), 451), (MailboxFullError("full"), 452)]
)
async def test_what_cannot_be_stored_is_to_come_again(error: Exception, code: int) -> None:
    async with server(error) as made:
        with pytest.raises(aiosmtplib.SMTPDataError) as refused:
            await send(made, broken(1))
        assert refused.value.code == code


async def test_a_mail_that_is_too_large_is_refused() -> None:
    async with server() as made:
        with pytest.raises(aiosmtplib.SMTPResponseException) as refused:
            await send(made, b"Subject: x\r\n\r\n" + b"y" * 70 + b"\r\n" + (b"z" * 70 + b"\r\n") * 1_000)
        assert refused.value.code == 552


async def test_only_so_many_recipients_at_once() -> None:
    async with server() as made:
        many = [f"{n}@y.example" for n in range(mail_in.RECIPIENTS_MOST + 1)]
        await send(made, broken(1), *many)  # the client is told of the one that was too much


async def test_one_connection_too_many_is_closed_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mail_in, "CONNECTIONS_MOST", 2)
    async with server() as made:
        assert made.address is not None
        opened = [await asyncio.open_connection(*made.address) for _ in range(3)]
        greetings = [await asyncio.wait_for(reader.readline(), PATIENCE_S) for reader, _ in opened]
        assert [bool(line) for line in greetings] == [True, True, False]
        for _, writer in opened:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for _, writer in opened), return_exceptions=True)


def settings(folder: Path) -> dict[str, str]:
    return {
        "TOUCHPOINT_DATA_DIR": str(folder),
        "TOUCHPOINT_WEB__PORT": "0",
        "TOUCHPOINT_MAIL__LISTEN": "127.0.0.1:0",
        "TOUCHPOINT_MAIL__REPLY_TO": "replies@tp.example",
    }


async def test_a_running_gateway_takes_mail_and_a_pipe_does_the_same(tmp_path: Path) -> None:
    environment = settings(tmp_path / "data")
    async with (
        app.opened(configuration.load(None, environment), role="all") as gateway,
        app.running(gateway),
    ):
        assert gateway.mail_server is not None
        while gateway.mail_server.address is None:
            await asyncio.sleep(0.01)
        await send(gateway.mail_server, broken(1), "replies@tp.example")
        with pytest.raises(aiosmtplib.SMTPRecipientsRefused):
            await send(gateway.mail_server, broken(2), "elsewhere@other.example")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway.cli", "mail", "receive", "--to", "replies+nobody@tp.example"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, **environment},
        )
        told, _ = await process.communicate(broken(3))
        assert (process.returncode, told.decode().strip()) == (0, "kept: unknown_token")
        rows = await gateway.database.read(lambda records: records.calendars.mails())
        assert [row.reason for row in rows] == ["unknown_token", "no_token"]
        assert (tmp_path / "data" / "calendar.key").stat().st_mode & 0o077 == 0
        assert len(gateway.policy.calendar_key) == 32
