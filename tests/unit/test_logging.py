"""What libraries say comes out as the gateway's own lines do."""

import asyncio
import json
import logging
from collections.abc import Iterator

import pytest
from aiohttp.http_exceptions import BadHttpMessage

from config import settings as configuration
from gateway.parts import OneLine, set_up_logging


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    libraries = logging.getLogger()
    libraries.handlers = [handler for handler in libraries.handlers if not isinstance(handler, OneLine)]


def as_json() -> None:
    set_up_logging(configuration.load(None, {"TOUCHPOINT_LOG__FORMAT": "json"}))


def test_what_is_no_http_is_one_line_and_no_trace(capsys: pytest.CaptureFixture[str]) -> None:
    as_json()
    refused = BadHttpMessage("Duplicate 'Content-Type' header found.")
    logging.getLogger("aiohttp.server").error("Error handling request", exc_info=refused)
    (line,) = capsys.readouterr().err.splitlines()
    said = json.loads(line)
    assert (said["level"], said["event"]) == ("info", "request_refused")
    assert "Duplicate 'Content-Type'" in said["problem"]


def test_a_fault_in_a_library_is_one_line_with_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    as_json()

    def fail(loop: asyncio.AbstractEventLoop) -> None:
        try:
            raise ValueError("broken inside")
        except ValueError as error:
            loop.call_exception_handler({"message": "a task broke", "exception": error})

    loop = asyncio.new_event_loop()
    fail(loop)
    loop.close()
    (line,) = capsys.readouterr().err.splitlines()
    said = json.loads(line)
    assert (said["level"], said["event"], said["logger"]) == ("error", "library", "asyncio")
    assert "a task broke" in said["said"]
    assert "ValueError: broken inside" in said["exception"]


def test_what_libraries_only_mention_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    as_json()
    logging.getLogger("alembic").info("Context impl SQLiteImpl.")
    assert capsys.readouterr().err == ""
