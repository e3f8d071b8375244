"""One-time links: looking changes nothing, using uses up, and only the hash is kept."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from garage import DAY, HOUR, World, open_world

from gateway.domain.access import secret_hash
from gateway.domain.errors import GoneError, InvalidError, NotFoundError
from gateway.domain.links import Link
from gateway.flow import links


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


async def minted(world: World, **more: object) -> str:
    plain: dict[str, object] = {"owner": "jana", "purpose": "answer", "about": "t1"}
    asked = plain | {"now": world.now, "expires_at": world.now + DAY} | more
    return await world.write(links.mint, **asked)


async def test_a_link_is_read_as_often_as_anybody_likes_and_used_once(world: World) -> None:
    secret = await minted(world)
    for _ in range(3):
        link = await world.read(lambda r: links.peek(r, secret, world.now))
        assert (link.owner, link.purpose, link.about, link.used_at) == ("jana", "answer", "t1", None)
    used = await world.write(links.use, secret, world.now)
    assert used.used_at == world.now
    for again in (links.peek, links.use):
        with pytest.raises(GoneError) as gone:
            await world.write(again, secret, world.now)
        assert isinstance(gone.value.what, Link)


async def test_of_many_at_the_same_instant_one_gets_it(world: World) -> None:
    secret = await minted(world)
    outcomes = await asyncio.gather(
        *(world.write(links.use, secret, world.now) for _ in range(20)), return_exceptions=True
    )
    assert sum(isinstance(outcome, Link) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, GoneError) for outcome in outcomes) == 19


async def test_it_ends_with_its_time(world: World) -> None:
    secret = await minted(world, expires_at=world.now + HOUR)
    world.go_to(world.now + HOUR - 1)
    await world.read(lambda r: links.peek(r, secret, world.now))
    world.go_to(world.now + 1)
    with pytest.raises(GoneError, match="expired"):
        await world.read(lambda r: links.peek(r, secret, world.now))


@pytest.mark.parametrize("secret", ["", "x", "a" * 43, "a" * 5_000, "\x00", "' OR 1=1 --"])
async def test_what_was_never_given_out_opens_nothing(world: World, secret: str) -> None:
    await minted(world)
    with pytest.raises(NotFoundError):
        await world.read(lambda r: links.peek(r, secret, world.now))


async def test_the_secret_has_256_random_bits_and_is_kept_nowhere(world: World, tmp_path: Path) -> None:
    secret = await minted(world, random=lambda n: bytes(range(n)))
    assert secret == "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
    kept = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert secret_hash(secret).encode() in kept
    assert secret.encode() not in kept
    assert await minted(world) != await minted(world)


async def test_a_purpose_that_nobody_knows_is_refused(world: World) -> None:
    with pytest.raises(InvalidError):
        await minted(world, purpose="anything")


async def test_links_that_ended_long_ago_are_forgotten(world: World) -> None:
    secret = await minted(world)
    world.go_to(world.now + DAY + links.KEPT_AFTER_MS)
    assert await world.write(links.forget, world.now) == 0
    world.go_to(world.now + 1)
    await minted(world)
    assert await world.write(links.forget, world.now) == 0, "whoever mints a link sweeps"
    with pytest.raises(NotFoundError):
        await world.read(lambda r: links.peek(r, secret, world.now))
