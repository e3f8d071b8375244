"""Mail comes in by SMTP (RFC 5321), from the house's own mail server, which stands before this one.

It takes mail to our own addresses alone, and only as much of it as the operator can look at. What says
who writes is the recipient's address (flow/mail.py); nothing else is believed, so nobody signs in here.

| it says | when                                                                            |
|---------|---------------------------------------------------------------------------------|
| 250     | taken, on disk                                                                  |
| 451     | the database is away: the mail server before us keeps it and comes again        |
| 452     | too many mails wait for somebody to look at them: the same                      |
| 550     | an address that is none of ours                                                 |
| 552     | larger than mail.max_bytes                                                      |
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog
from aiosmtpd.smtp import SMTP, Envelope, Session

from gateway.flow.mail import MailboxFullError
from gateway.ports import TROUBLES

IDLE_S = 120
CONNECTIONS_MOST = 100
RECIPIENTS_MOST = 100
IDENT = "Touchpoint"

Take = Callable[[bytes, Sequence[str]], Awaitable[object]]

log = structlog.get_logger()


class MailServer:
    """Listens until its `run` is cancelled. `take(raw, recipients)` takes one mail; `ours(address)` says
    whether an address is one of ours."""

    def __init__(
        self, *, host: str, port: int, take: Take, ours: Callable[[str], bool], max_bytes: int
    ) -> None:
        self._host = host
        self._port = port
        self._handler = _Handler(take, ours)
        self._max_bytes = max_bytes
        self._open: set[asyncio.BaseTransport] = set()
        self.address: tuple[str, int] | None = None
        """where it listens, once it does"""

    async def run(self) -> None:
        """Until cancelled. Raises OSError when the address cannot be listened on."""
        server = await self.start()
        try:
            await server.serve_forever()
        finally:
            self.address = None
            for transport in list(self._open):
                transport.close()

    async def start(self) -> asyncio.Server:
        """Listen; the caller closes. Raises OSError."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(self._protocol, self._host, self._port)
        host, port = server.sockets[0].getsockname()[:2]
        self.address = (host, port)
        log.info("mail_listening", host=host, port=port)
        return server

    def _protocol(self) -> SMTP:
        return _Protocol(
            self._handler,
            open_transports=self._open,
            data_size_limit=self._max_bytes,
            enable_SMTPUTF8=True,
            hostname="localhost",
            ident=IDENT,
            timeout=IDLE_S,
            loop=asyncio.get_running_loop(),
        )


class _Protocol(SMTP):
    """One connection; beyond the most there may be, a further one is closed at once."""

    def __init__(self, handler: _Handler, *, open_transports: set[asyncio.BaseTransport], **named: object):
        self._open = open_transports
        super().__init__(handler, **named)  # type: ignore[arg-type]  # its own keyword arguments

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if len(self._open) >= CONNECTIONS_MOST:
            transport.close()
            return
        self._open.add(transport)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        if self.transport is not None:
            self._open.discard(self.transport)
            super().connection_lost(error)


class _Handler:
    """What aiosmtpd asks."""

    def __init__(self, take: Take, ours: Callable[[str], bool]) -> None:
        self._take = take
        self._ours = ours

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Only to us, and only so many at once."""
        if len(envelope.rcpt_tos) >= RECIPIENTS_MOST:
            return "452 4.5.3 Too many recipients; send the rest in another mail."
        if not self._ours(address):
            return "550 5.7.1 This address is none of ours; mail for others is not taken."
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Take the mail, or say that it is to come again."""
        content = envelope.original_content or b""
        try:
            await self._take(content, [str(recipient) for recipient in envelope.rcpt_tos])
        except MailboxFullError:
            return "452 4.3.1 Too many mails wait for somebody to look at them; come again later."
        except TROUBLES as error:
            log.warning("mail_waits", why=str(error))
            return "451 4.3.0 The store is away; come again later."
        return "250 2.0.0 Taken."
