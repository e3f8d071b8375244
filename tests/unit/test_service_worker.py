"""What the service worker does with a push and a tap, run by node over stand-ins for the browser's parts."""

import json
import shutil
import subprocess
from typing import Any

import pytest
from real_parts import ROOT

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed; it runs the service worker here")

HARNESS = """
const vm = require("vm"), fs = require("fs");
const [source, given] = [fs.readFileSync(process.argv[1], "utf8"), JSON.parse(process.argv[2])];
const told = { shown: [], posted: [], opened: [], closed: 0 }, handlers = {};
const self = {
  addEventListener: (name, handler) => { handlers[name] = handler; },
  registration: { showNotification: async (title, options) => { told.shown.push({ title, ...options }); } },
  clients: { matchAll: async () => [], openWindow: async (path) => { told.opened.push(path); } },
  location: { origin: "https://gateway.example" }, navigator: { language: "de-DE" },
};
if (given.maxActions !== undefined) self.Notification = { maxActions: given.maxActions };
const fetch = async (to, options) => {
  if (given.offline) throw new TypeError("offline");
  const { body, credentials } = options;
  if (!to.startsWith("/me/deliveries/")) told.posted.push({ to, body: String(body), credentials });
  return { ok: given.ok ?? true, url: "https://gateway.example" + (given.leads ?? "/me") };
};
vm.runInNewContext(source, { self, fetch, URL, URLSearchParams, encodeURIComponent, String, Promise });
(async () => {
  const waits = [];
  const notification = { data: given.said, close: () => { told.closed += 1; } };
  const event = { data: { json: () => given.said }, waitUntil: (p) => waits.push(p) };
  if (given.action !== undefined) Object.assign(event, { action: given.action, notification });
  handlers[given.action === undefined ? "push" : "notificationclick"](event);
  await Promise.all(waits);
  console.log(JSON.stringify(told));
})();
"""

OFFER = {
    "id": "d1",
    "touchpoint": "t1",
    "about": "offer",
    "title": "Worn",
    "body": "2.5 mm",
    "url": "https://gateway.example/me/touchpoints/t1",
    "actions": [
        {"action": "book:nord@1", "title": "Tuesday"},
        {"action": "book:nord@2", "title": "Thursday"},
        {"action": "other_time", "title": "Other time"},
        {"action": "not_now", "title": "Not now"},
    ],
}


def worker(**given: Any) -> dict[str, Any]:
    """What it showed, posted and opened."""
    assert NODE is not None
    source = ROOT / "gateway/web/static/sw.js"
    asked = json.dumps({"said": OFFER} | given)
    done = subprocess.run(
        [NODE, "-e", HARNESS, str(source), asked], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize(("most", "shown"), [(None, 2), (2, 2), (3, 3), (0, 0)])
def test_as_many_buttons_as_the_platform_shows_the_most_important_first(most: int | None, shown: int) -> None:
    (notification,) = worker(**({} if most is None else {"maxActions": most}))["shown"]
    assert [a["title"] for a in notification["actions"]] == ["Tuesday", "Thursday", "Other time"][:shown]
    assert (notification["tag"], notification["silent"]) == ("t1", False)


def test_what_was_answered_elsewhere_takes_the_place_of_the_offer_silently() -> None:
    (notification,) = worker(said=OFFER | {"about": "answered", "actions": []})["shown"]
    assert (notification["tag"], notification["silent"]) == ("t1", True)


def test_a_button_answers_where_it_stands() -> None:
    told = worker(action="book:nord@2", leads="/me/visits/v1?said=booked")
    assert told["posted"] == [
        {
            "to": "/me/touchpoints/t1/answer",
            "body": "action=book&channel=web_push&slot=nord%402",
            "credentials": "same-origin",
        }
    ]
    assert told["opened"] == [], "nobody needs a page for that"
    assert told["closed"] == 1
    (notification,) = told["shown"]
    assert (notification["body"], notification["actions"], notification["silent"]) == ("Gebucht.", [], True)
    assert notification["data"]["url"] == "/me/visits/v1?said=booked"


@pytest.mark.parametrize(
    ("leads", "body"),
    [
        ("/me/touchpoints/t1?said=taken", "This time has just been taken. Tap for the next ones."),
        ("/me/touchpoints/t1?said=conflict", "It has been answered already. Tap to see what holds."),
        ("/me?said=not_now", "Noted."),
    ],
)
def test_the_notification_says_what_came_of_it(leads: str, body: str) -> None:
    (notification,) = worker(action="book:nord@2", leads=leads, said=OFFER | {"language": "en"})["shown"]
    assert notification["body"] == body


def test_a_parameter_of_any_other_action_stays_with_it() -> None:
    (posted,) = worker(action="snooze:tomorrow")["posted"]
    assert posted["body"] == "action=snooze%3Atomorrow&channel=web_push"


def test_extra_work_is_answered_at_its_own_address() -> None:
    said = OFFER | {"about": "extra_work", "answer_at": "/me/extra-work/x1/answer"}
    (posted,) = worker(action="approve", said=said)["posted"]
    assert (posted["to"], posted["body"]) == (
        "/me/extra-work/x1/answer",
        "action=approve&channel=web_push",
    )


def test_what_is_chosen_on_a_page_opens_it_and_answers_nothing() -> None:
    told = worker(action="other_time")
    assert (told["posted"], told["opened"]) == ([], ["/me/touchpoints/t1/times"])


def test_offline_the_notification_comes_back_and_says_that_nothing_was_sent() -> None:
    told = worker(action="not_now", offline=True)
    (notification,) = told["shown"]
    assert notification["body"].startswith("Sie sind offline")
    assert len(notification["actions"]) == 2
    assert told["opened"] == []


def test_where_the_session_has_ended_signing_in_leads_to_the_matter() -> None:
    told = worker(action="not_now", leads="/sign-in?next=/me/touchpoints/t1/answer")
    assert told["opened"] == ["/sign-in?next=%2Fme%2Ftouchpoints%2Ft1"]


def test_what_is_refused_opens_the_page() -> None:
    assert worker(action="not_now", ok=False)["opened"] == [OFFER["url"]]


def test_a_tap_beside_the_buttons_opens_the_page() -> None:
    told = worker(action="")
    assert (told["posted"], told["opened"]) == ([], [OFFER["url"]])
