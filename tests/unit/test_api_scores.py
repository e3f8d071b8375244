"""What the answers to the one question say together, and how sure that is."""

from collections import Counter

from gateway.web.scores import Score, interval_of


def asked(*given: int | None, question: str = "csat") -> Score:
    counted = Counter(score for score in given if score is not None)
    return Score(question=question, asked=len(given), distribution=counted)


def test_the_mean_counts_those_who_answered() -> None:
    score = asked(5, 4, None, 3)
    assert (score.asked, score.answered, score.mean) == (4, 3, 4.0)


def test_nobody_and_one_answer_give_no_interval() -> None:
    assert asked(None).mean is None
    assert asked(5).interval is None


def test_promoters_less_detractors_are_the_net_of_nps_alone() -> None:
    assert asked(10, 9, 8, 7, 6, None, question="nps").net == 20.0
    assert asked(5, 5).net is None


def test_a_few_who_agree_are_no_certainty() -> None:
    found = interval_of({5: 3}, 1, 5)
    assert found is not None
    low, high = found
    assert low < 4
    assert high == 5


def test_more_answers_make_it_surer() -> None:
    few, many = interval_of({4: 5, 5: 5}, 1, 5), interval_of({4: 500, 5: 500}, 1, 5)
    assert few is not None
    assert many is not None
    assert many[1] - many[0] < (few[1] - few[0]) / 5
    assert many[0] < 4.5 < many[1]
