"""How often a token may ask: counted by token and window, in bounded memory, said with every answer."""

from gateway.web import limits
from gateway.web.limits import Limiter


class Seconds:
    """A clock that stands still."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_window_begins_with_the_first_request_and_ends_a_minute_later() -> None:
    clock = Seconds()
    limiter = Limiter(2, monotonic=clock)
    assert limiter.count("a").headers() == {
        "RateLimit-Policy": '"api";q=2;w=60',
        "RateLimit": '"api";r=1;t=60',
    }
    clock.now += 30.5
    assert limiter.count("a").headers()["RateLimit"] == '"api";r=0;t=30'
    assert limiter.count("a").left == -1
    assert limiter.count("a").headers()["RateLimit"] == '"api";r=0;t=30'
    clock.now += 29.5
    assert limiter.count("a").left == 1


def test_one_token_takes_nothing_from_another() -> None:
    limiter = Limiter(1, monotonic=Seconds())
    assert [limiter.count(token).left for token in ("a", "a", "b")] == [0, -1, 0]


def test_what_has_ended_is_forgotten_and_no_more_are_kept_than_allowed() -> None:
    clock = Seconds()
    limiter = Limiter(1, monotonic=clock)
    for number in range(limits.TOKENS_MOST + 500):
        limiter.count(str(number))
    assert len(limiter._windows) == limits.TOKENS_MOST
    clock.now += limits.WINDOW_S
    limiter.count("new")
    assert list(limiter._windows) == ["new"]
