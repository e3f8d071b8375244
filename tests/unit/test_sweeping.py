"""What pages leave behind is swept a little at a time."""

from gateway.web.sweeping import ALL_EVERY, MIDDLE_EVERY, YOUNG_EVERY, Sweeper


def swept(requests: int) -> list[int]:
    """The generations that were looked through after so many requests."""
    looked: list[int] = []
    sweeper = Sweeper(looked.append)
    for _ in range(requests):
        if sweeper.answered():
            sweeper.sweep()
    return looked


def test_the_young_are_looked_through_often_the_middle_seldom_all_rarely() -> None:
    assert swept(YOUNG_EVERY - 1) == []
    assert swept(YOUNG_EVERY) == [0]
    assert swept(YOUNG_EVERY * MIDDLE_EVERY) == [0] * (MIDDLE_EVERY - 1) + [1]
    looked = swept(YOUNG_EVERY * ALL_EVERY)
    assert len(looked) == ALL_EVERY
    assert looked[-1] == 2
    assert looked.count(2) == 1
