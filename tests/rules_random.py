"""Random conditions over the van of rules_case."""

from __future__ import annotations

from hypothesis import strategies as st

NUMBERS = st.sampled_from(["speed", "temperature", "pads"])
LIMITS = st.sampled_from([0, 1, 10, 20, 20.5, 50, 80])
COMPARE = st.sampled_from([">", ">=", "<", "<=", "==", "!="])
PLAIN_ATOMS = st.one_of(
    st.builds("{} {} {}".format, NUMBERS, COMPARE, LIMITS),
    st.builds("{} {} {}".format, LIMITS, COMPARE, NUMBERS),
    st.builds("{} < {} <= {}".format, LIMITS, NUMBERS, LIMITS),
    st.builds("{} {} {}".format, NUMBERS, st.sampled_from(["* 2 - 5 >", "/ 3 <"]), LIMITS),
    st.just("speed / pads > 2"),
    st.builds(
        "{}({}, '{}') {} {}".format,
        st.sampled_from(["avg", "min", "max", "count", "last"]), NUMBERS,
        st.sampled_from(["10s", "1m", "10m"]), COMPARE, LIMITS,
    ),
    st.sampled_from(["door_open", "not door_open", "gear == 'park'", "gear in ('park', 'drive')"]),
    st.just("'P1' in dtc"),
)  # fmt: skip
SPANS = st.sampled_from(["5s", "10s", "1m", "10m"])
INNER = st.one_of(
    st.builds("{} {} {}".format, NUMBERS, COMPARE, LIMITS),
    st.builds("avg({}, '{}') > {}".format, NUMBERS, SPANS, LIMITS),
    st.builds("count({}, '{}') > {}".format, NUMBERS, SPANS, st.integers(0, 4)),
    st.builds("stddev({}, '{}') > {}".format, NUMBERS, SPANS, LIMITS),
    st.builds("crossed({}, {})".format, NUMBERS, LIMITS),
    st.builds("speed > {} and pads < {}".format, LIMITS, LIMITS),
    st.sampled_from(["door_open", "not door_open", "gear == 'park'", "code('P1*')", "inside('yard')"]),
)
"""What may stand in held, times and since."""
FUNCTIONS = st.one_of(
    st.builds(
        "{}({}, '{}') {} {}".format,
        st.sampled_from(["change", "stddev", "rate", "slope", "sum", "baseline"]), NUMBERS, SPANS, COMPARE,
        LIMITS,
    ),
    st.builds("percentile({}, {}, '{}') {} {}".format, NUMBERS, st.sampled_from([0, 50, 90]), SPANS,
    COMPARE, LIMITS),
    st.builds("days_until({}, {}, over='{}') {} {}".format, NUMBERS, LIMITS, SPANS, COMPARE, LIMITS),
    st.builds("{}({}) {} {}".format, st.sampled_from(["previous", "usage", "age", "fleet"]), NUMBERS,
    COMPARE, LIMITS),
    st.builds("crossed({}, {}{})".format, NUMBERS, LIMITS, st.sampled_from(["", ", 'up'", ", 'down'"])),
    st.builds("held({}, '{}')".format, INNER, SPANS),
    st.builds("times({}, '{}') {} {}".format, INNER, SPANS, COMPARE, st.integers(0, 3)),
    st.builds("since({}) {} {}".format, INNER, COMPARE, st.sampled_from(["0", "'5s'", "20", "'1m'"])),
    st.builds("age({}) {} '{}'".format, st.sampled_from(["speed", "gear", "dtc", "door_open"]), COMPARE,
    SPANS),
    st.builds("silent('{}')".format, SPANS),
    st.sampled_from([
        "code('P1')", "code(dtc, 'P?', 'X*')", "inside('yard')", "not inside('field')", "country() == 'DE'",
        "distance('yard') < 20", "local_hour() >= 12.1", "context('weather', 'wind') > 20",
        "speed > context('weather', 'wind')", "previous(speed) < speed - 5", "age(speed) > age(pads)",
        "since(speed > 50) < age(pads)", "last(speed, '5s') > previous(speed)",
    ]),
)  # fmt: skip
"""All that conditions may call, beside what guards and shared windows know how to skip."""
ATOMS = st.one_of(PLAIN_ATOMS, FUNCTIONS)
CONDITIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.builds("({} and {})".format, inner, inner),
        st.builds("({} or {})".format, inner, inner),
        st.builds("not ({})".format, inner),
    ),
    max_leaves=4,
)
