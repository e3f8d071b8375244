"""Guides: which of them a product gets, what counts as used, and what is said of files that are wrong."""

import pytest

from gateway.domain.device import Device, Facts
from gateway.domain.guides import GuideErrors, parse

LANE = """
- id: lane
  kind: car
  models: [Arden 5]
  used: lane_uses
  title: {en: Lane keeping}
  text: {en: Steers back}
  pieces: [{type: video, label: {en: Film}, file: lane.mp4}]
"""


def test_a_guide_is_for_its_kind_and_models() -> None:
    (guide,) = parse([("a.yaml", "/guides", LANE)])
    assert guide.fits(Device(id="1", kind="car", model="Arden 5"))
    assert not guide.fits(Device(id="1", kind="car", model="Arden 7"))
    assert not guide.fits(Device(id="1", kind="dishwasher", model="Arden 5"))
    assert guide.folder == "/guides"


@pytest.mark.parametrize(
    ("latest", "unused"), [({}, False), (0, True), (3, False), (False, True), (True, False)]
)
def test_only_the_product_itself_says_that_something_was_not_used(latest: object, unused: bool) -> None:
    (guide,) = parse([("a.yaml", "", LANE)])
    facts = Facts(device="1", latest={} if latest == {} else {"lane_uses": (1, latest)})  # type: ignore[dict-item]
    assert guide.unused(facts) is unused


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (LANE + LANE, "twice"),
        (LANE.replace("file: lane.mp4", "file: ../../secret"), "not beside the guides"),
        (LANE.replace("file: lane.mp4", "url: http://example.com/a"), "not https"),
        (LANE.replace(", file: lane.mp4", ""), "either url or file"),
        (LANE.replace("text: {en: Steers back}", "text: {de: Lenkt}"), "text: no English one"),
        (LANE.replace("kind: car", "sort: car"), "a.yaml"),
        ("a: b", "a file of guides is a list"),
    ],
)
def test_what_is_wrong_is_said_with_its_file(wrong: str, told: str) -> None:
    with pytest.raises(GuideErrors, match=told):
        parse([("a.yaml", "", wrong)])
