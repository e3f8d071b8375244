"""Where a rule stands in its file, what it was over time, and how two of its texts differ."""

from pathlib import Path

import pytest

from gateway.flow.rule_history import changes
from rules.passages import passage
from rules.texts import compose

FILE = """# a file
- id: one
  version: 3
  when: a > 1
  source: >-
    Because of this,
    and that.
  examples:
    - given: {a: [[0h, 2]]}
      expect: {never: true}

# about the second
- {id: two, when: b > 1}
- id: three
  source: |
    last

"""


@pytest.mark.parametrize(
    ("rule", "version", "first", "last"),
    [
        ("one", 3, "- id: one", "      expect: {never: true}"),
        ("two", 1, "- {id: two, when: b > 1}", "- {id: two, when: b > 1}"),
        ("three", 1, "- id: three", "    last"),
    ],
)
def test_a_rules_text_is_what_people_wrote_and_nothing_of_its_neighbours(
    rule: str, version: int, first: str, last: str
) -> None:
    found = passage(FILE, rule)
    assert found is not None
    lines = found[1].rstrip().splitlines()
    assert (found[0], lines[0], lines[-1]) == (version, first, last)


@pytest.mark.parametrize(("version", "is_one"), [("12", 12), ("²", 1), ("1.5", 1)])
def test_a_version_that_is_no_number_is_the_first(version: str, is_one: int) -> None:
    found = passage(FILE.replace("version: 3", f"version: {version}"), "one")
    assert found is not None
    assert found[0] == is_one


@pytest.mark.parametrize("text", ["", "- id: other", "one: two", "- [one", "one", "- id: {one: 1}"])
def test_what_is_not_there_is_none(text: str) -> None:
    assert passage(text, "one") is None


def test_every_shipped_rule_is_found_whole() -> None:
    for path in sorted(Path("config/rules").glob("*.yaml")):
        text = path.read_text()
        root = compose(text)
        assert root is not None
        ids = [next(value.value for key, value in node.value if key.value == "id") for node in root.value]
        found = {rule: passage(text, rule) for rule in ids}
        assert all(found.values()), path
        joined = sum(len(told[1].rstrip().splitlines()) for told in found.values() if told)
        rest = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
        assert joined >= len(rest), path


def test_a_difference_is_what_changed_with_some_lines_around_it() -> None:
    before = "\n".join("abcdefghij")
    after = before.replace("e", "E\nnew")
    told = [f"{change.sign}{change.text}" for change in changes(before, after)]
    assert told == ["…", " c", " d", "-e", "+E", "+new", " f", " g", "…"]
    assert changes(before, before) == []
