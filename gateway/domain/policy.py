"""What decides when: the operator's settings and the rules' own wishes, without any I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from gateway.domain.feedback import Asking
from gateway.domain.purposes import PURPOSES
from gateway.domain.touchpoint import Finding
from gateway.domain.working_time import WorkingTime
from rules import Rule, RuleSet


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleInfo:
    """What deciding and wording need to know of a rule."""

    id: str
    version: int
    kind: str
    """device kind"""
    purpose: str
    severity: str
    touchpoint_kind: str
    """appointment, reminder, hint, notice"""
    service: str | None
    expires_ms: int | None
    shadow: bool = False
    while_driving: bool = False
    """its touchpoint may be shown on the device's display while the device moves"""
    resets: tuple[str, ...] = ()
    signals: tuple[str, ...] = ()
    """the signals its condition mentions, in order; the first one is charted"""
    limit: float | None = None
    """the number the charted signal is compared with, in the signal's own unit"""
    condition: str = ""
    """the text of `when`, for those who want it"""
    for_ms: int = 0
    """how long it has to be true without a break"""
    clear: str | None = None
    """the text of `clear`; None: an episode ends when the condition is false"""
    source: str | None = None
    """where its threshold comes from, one sentence"""
    max_age_ms: int | None = None
    """how old what was measured may be when it reaches us; None: as the operator set it"""

    @classmethod
    def of(cls, rule: Rule) -> RuleInfo:
        """From a rule as it was read."""
        return cls(
            id=rule.id,
            version=rule.version,
            kind=rule.kind,
            purpose=rule.purpose,
            severity=rule.severity,
            touchpoint_kind=rule.touchpoint.kind,
            service=rule.touchpoint.service,
            expires_ms=rule.touchpoint.expires_ms,
            shadow=rule.shadow,
            while_driving=rule.while_driving,
            resets=rule.resets,
            signals=rule.signals,
            limit=rule.limit,
            condition=rule.when.text,
            for_ms=rule.for_ms,
            clear=rule.clear.text if rule.clear else None,
            source=rule.source,
            max_age_ms=rule.max_age_ms,
        )


OWNER_REPORT = RuleInfo(
    id="owner-report",
    version=1,
    kind="",
    purpose="report",
    severity="warning",
    touchpoint_kind="appointment",
    service="diagnosis",
    expires_ms=None,
    source="The owner said that something is wrong.",
)
"""What stands for a rule where the owner has found it: no rule set holds it."""


RECALL_PURPOSE = "recall"
"""What rests on a legal duty: no consent, no muting, no budget; the owner chooses only the channel."""

RECALL = RuleInfo(
    id="recall",
    version=1,
    kind="",
    purpose=RECALL_PURPOSE,
    severity="warning",
    touchpoint_kind="appointment",
    service=None,
    expires_ms=2 * 365 * 86_400_000,
    source="The manufacturer recalls it.",
)
"""What stands for a rule where a recall campaign names the devices; rule ids are `recall-<campaign>`."""

UPDATE = RuleInfo(
    id="update",
    version=1,
    kind="",
    purpose="update",
    severity="advice",
    touchpoint_kind="notice",
    service=None,
    expires_ms=60 * 86_400_000,
    source="New software is there.",
)
"""What stands for a rule where new software is offered or was installed; rule ids are `update-<release>`.
That an owner hears of security fixes is a duty of the seller's (Directive (EU) 2019/771, article 7)."""

BUILT_IN: Mapping[str, RuleInfo] = {OWNER_REPORT.id: OWNER_REPORT}


def rule_of(rules: Mapping[str, RuleInfo], finding: Finding) -> RuleInfo | None:
    """The rule behind a finding, None when it is no longer active. What a recall asks for stands in the
    finding itself."""
    rule = rules.get(finding.rule) or BUILT_IN.get(finding.rule)
    recalled = finding.evidence.get("recall")
    if rule is None and isinstance(recalled, Mapping):
        service = recalled.get("service")
        kind = "appointment" if service else "notice"
        return replace(
            RECALL, id=finding.rule, severity=finding.severity, service=service, touchpoint_kind=kind
        )
    update = finding.evidence.get("update")
    if rule is None and isinstance(update, Mapping):
        purpose = "security_update" if update.get("security") else UPDATE.purpose
        told = replace(UPDATE, id=finding.rule, severity=finding.severity, purpose=purpose)
        by_hand = update.get("what") == "failed"
        return replace(told, touchpoint_kind="appointment", service="diagnosis") if by_hand else told
    return rule


class RuleBook(Mapping[str, RuleInfo]):
    """The rules in force, by id. One set takes another's place as a whole, for whoever holds the book."""

    def __init__(self, rules: RuleSet) -> None:
        self._rules = _infos(rules)

    def take(self, rules: RuleSet) -> None:
        """From now on these."""
        self._rules = _infos(rules)

    def __getitem__(self, rule: str) -> RuleInfo:
        return OWNER_REPORT if rule == OWNER_REPORT.id else self._rules[rule]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rules)

    def __len__(self) -> int:
        return len(self._rules)


def _infos(rules: RuleSet) -> dict[str, RuleInfo]:
    return {rule.id: RuleInfo.of(rule) for rule in rules.rules.values()}


@dataclass(frozen=True, kw_only=True, slots=True)
class Rung:
    """A step of the ladder on which an owner who does not answer is reached."""

    channel: str
    after_ms: int = 0
    """from the moment the matter is sent"""
    severity: str | None = None
    """for matters of this severity alone, in place of the channel's other step"""


LADDER = (
    Rung(channel="web_push"),
    Rung(channel="display"),
    Rung(channel="webhook"),
    Rung(channel="email", after_ms=24 * 3_600_000),
    Rung(channel="email", severity="critical"),
    Rung(channel="letter", after_ms=7 * 86_400_000),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """Everything the deciding steps are allowed to know besides the records.

    What config/default.toml sets has the same default here; a test holds them together.
    """

    rules: Mapping[str, RuleInfo] = field(default_factory=dict)
    quiet_from: str = "21:00"
    quiet_to: str = "07:00"
    """defaults for owners who set none; local times of the owner's zone"""
    weekly_budget: int = 2
    """service messages in seven days, for owners who set none"""
    max_age_ms: int = 7 * 86_400_000
    """how old what was measured may be when it reaches us, for rules that say nothing"""
    catch_up_ms: int = 15 * 60_000
    """how long a newer reading is waited for where what was measured is older"""
    hold_out_percent: float = 0.0
    """of 100 products, how many are told nothing of a rule's advice, to see what telling does"""
    pace_answers: int = 30
    """the last answers to a rule's touchpoints that say whether it slows down"""
    pace_declined_percent: int = 60
    """how many of a hundred of them have to be declined"""
    marketing_budget: int = 1
    """marketing messages in seven days, a purse of its own"""
    channels: tuple[str, ...] = ("web_push", "display", "letter", "webhook")
    """the operator's channels; an owner may want fewer. E-mail joins them where a mail server is named"""
    ladder: tuple[Rung, ...] = LADDER
    """which channel when, as long as nobody answers"""
    retry_schedules_s: Mapping[str, tuple[int, ...]] = field(
        default_factory=lambda: {"email": (60, 300, 1800, 7200, 28_800, 86_400)}
    )
    """channels with a schedule of their own, in place of `retry_schedule_s`"""
    in_use_kinds: tuple[str, ...] = ("car",)
    """device kinds whose critical findings are dangerous in use; those of others are dangerous at once"""
    driving_check_ms: int = 15 * 60_000
    """how long until a matter that waits for the end of a trip is looked at again, if no end is reported"""
    late_push_ms: int = 60_000
    """how long until a push that fell due while its owner drives is looked at again"""
    drive_settle_ms: int = 180_000
    """how long after a trip's end the owner is left alone"""
    moving_stale_ms: int = 6 * 3_600_000
    """a device that reported moving and then nothing for so long is taken as parked"""
    deferral_max_ms: int = 14 * 86_400_000
    """a touchpoint without an expiry of its own expires after so long"""
    hold_ms: int = 15 * 60_000
    """how long a slot is kept after the owner opened the matter"""
    counter_ms: int = 48 * 3_600_000
    """how long times that a workshop offers instead are kept for the owner"""
    remind_before_ms: int = 24 * 3_600_000
    """how long before a visit the owner is reminded (moved out of quiet hours)"""
    extra_answer_ms: int = 2 * 3_600_000
    """how long a workshop waits for a word on extra work, unless it says how long"""
    proposals: int = 2
    """slots that an offer carries"""
    propose_days: int = 60
    """how far ahead slots are proposed"""
    snooze_ms: int = 7 * 86_400_000
    """when a matter answered with "not now" may return"""
    retry_schedule_s: tuple[int, ...] = (10, 60, 300, 1800, 7200, 28_800)
    """seconds after the 1st, 2nd, … failed attempt; after the last one the delivery is dead"""
    lease_ms: int = 60_000
    """how long one process has a delivery to itself"""
    ask_after_ms: int = 18 * 3_600_000
    """how long after a job the one question is asked (moved out of quiet hours)"""
    asking: Asking = field(default_factory=Asking)
    """which question is asked when, and which score is low"""
    helped_ms: int = 14 * 86_400_000
    """a finding that comes back within so long after its job shows that the job did not help"""
    effect_ms: int = 60 * 86_400_000
    """how long findings are watched to compare those sent with those held out"""
    measure_every_ms: int = 300_000
    """how long what is measured may be behind"""
    responsible: str = "after-sales"
    """account or team that a new case is given to"""
    working_time: WorkingTime = field(default_factory=WorkingTime)
    """when the operator's people work: deadlines are counted in it"""
    deadline_hours: Mapping[str, int] = field(
        default_factory=lambda: {"complaint": 8, "low_score": 16, "call_me": 4, "update_failed": 16}
    )
    """{kind of case: working hours until the customer hears from somebody}"""
    purposes: Mapping[str, str] = field(default_factory=lambda: PURPOSES)
    """{purpose: version of its text}: what owners are asked to agree to"""
    reply_address: str = ""
    """where answers to invitations come in, replies@example.com; empty: nobody answers by mail"""
    bounce_domain: str = ""
    """domain that undeliverable mail of ours comes back to"""
    sender_address: str = "after-sales@example.com"
    """who writes, and who invites where no answers come in"""
    calendar_domain: str = "touchpoint"
    """after the @ in the UID of events"""
    calendar_key: bytes = b"tests alone"
    """what makes the secrets in reply and feed addresses; made by `setup`, in the data folder"""
    mail_kept_most: int = 10_000
    """mails that nobody could place yet; beyond, further ones are asked to come again later"""
    mail_kept_bytes: int = 256 * 1024 * 1024
    """and so many bytes of them"""
    busy_every_ms: int = 15 * 60_000
    """how often a workshop's own calendar is read"""
