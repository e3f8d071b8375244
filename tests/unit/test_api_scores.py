"""What the answers to the one question say together, and how sure that is."""

from gateway.domain.feedback import Feedback
from gateway.web.api.feedback import interval_of, score_of


def asked(*scores: int | None) -> list[Feedback]:
    return [
        Feedback(id=str(n), touchpoint="t", owner="o", question="csat", asked_at=0, score=score)
        for n, score in enumerate(scores)
    ]


def test_the_mean_counts_those_who_answered() -> None:
    score = score_of("csat", asked(5, 4, None, 3))
    assert (score.asked, score.answered, score.mean) == (4, 3, 4.0)
    assert score.distribution == {"1": 0, "2": 0, "3": 1, "4": 1, "5": 1}


def test_nobody_and_one_answer_give_no_interval() -> None:
    assert score_of("csat", asked(None)).mean is None
    assert score_of("csat", asked(5)).interval is None


def test_a_few_who_agree_are_no_certainty() -> None:
    found = interval_of([5, 5, 5], 1, 5)
    assert found is not None
    low, high = found
    assert low < 4
    assert high == 5


def test_more_answers_make_it_surer() -> None:
    few, many = interval_of([4, 5] * 5, 1, 5), interval_of([4, 5] * 500, 1, 5)
    assert few is not None
    assert many is not None
    assert many[1] - many[0] < (few[1] - few[0]) / 5
    assert many[0] < 4.5 < many[1]
