"""touchpoint: the command line.

Exit status: 0 good, 1 findings against what was checked, 2 cannot run. Modules are imported by the
command that needs them, so that `--help` and small commands answer at once.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from gateway.domain.errors import CannotStartError

CANNOT_RUN = 2

BACKTEST_EXAMPLES = """touchpoint rules backtest my-rules.yaml --from 2026-10-01
example: touchpoint rules backtest my-rules.yaml --readings fleet.csv.gz --truth failures.csv --within 48h
example: touchpoint rules backtest new.yaml --against old.yaml --readings fleet.csv.gz --json"""

Command = Callable[[argparse.Namespace], int]


class Subcommands:
    """Adds commands with their help and an example, the same way for all."""

    def __init__(self, parser: argparse.ArgumentParser, dest: str) -> None:
        self._add = parser.add_subparsers(dest=dest, metavar="COMMAND", required=True)

    def add(
        self, name: str, help_text: str, example: str, run: Command | None = None
    ) -> argparse.ArgumentParser:
        """A command; `run` gets the parsed arguments and gives the exit status."""
        parser = self._add.add_parser(
            name,
            help=help_text,
            description=help_text[0].upper() + help_text[1:] + ".",
            epilog=f"example: {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if run is not None:
            parser.set_defaults(run=run)
        return parser


class Version(argparse.Action):
    """Looks the version up only when somebody asks: importing the means for it takes as long as `--help`."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"touchpoint {version('touchpoint-gateway')}")
        parser.exit()


def lazy(module: str, function: str) -> Command:
    """A command that lives in another module, imported when it is run."""

    def run(arguments: argparse.Namespace) -> int:
        import importlib

        gc.disable()  # what is imported stays: looking through it again and again is a fifth of the time
        try:
            imported = importlib.import_module(module)
        finally:
            gc.enable()
        result: int = getattr(imported, function)(arguments)
        return result

    return run


def make_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="touchpoint",
        description="What a product knows becomes one contact at the right moment, and its owner decides.",
        epilog="example: touchpoint demo",
    )
    parser.add_argument("--version", action=Version, nargs=0, help="print the version and end")
    commands = Subcommands(parser, "command")
    _running(commands)
    _operating(commands)
    _rules(commands)
    _messages(commands)
    _simulating(commands)
    _firmware(commands)
    return parser


def positive(text: str) -> float:
    """A number above 0."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError
    return number


def count(text: str) -> int:
    """A whole number from 1."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def port(text: str) -> int:
    """A port, 0 for a free one."""
    number = int(text)
    if not 0 <= number <= 65_535:
        raise ValueError
    return number


def part_of_all(text: str) -> float:
    """A number from 0 to 1."""
    number = float(text)
    if not 0 <= number <= 1:
        raise ValueError
    return number


def speed(text: str) -> str:
    """A number above 0, or max."""
    return text if text == "max" else str(positive(text))


def _config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings that overlay the shipped ones")


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")


def _running(commands: Subcommands) -> None:
    run = commands.add(
        "run", "run the gateway", "touchpoint run --config gateway.toml", lazy("gateway.app", "run_command")
    )
    _config(run)
    run.add_argument(
        "--role",
        choices=("all", "ingest", "deliver", "web"),
        default="all",
        help="ingest: receive to assess, respond; deliver: deliver, timers; web: pages, API (default: all)",
    )
    demo = commands.add(
        "demo",
        "play the story with everything on this machine",
        "touchpoint demo --speed 3600",
        lazy("gateway.demo", "demo_command"),
    )
    demo.add_argument("--port", type=port, help="port of the pages (default: 8080, else a free one)")
    demo.add_argument(
        "--speed", type=positive, default=18_000.0, help="scenario seconds a second (default: 18000)"
    )
    demo.add_argument("--seed", type=int, default=7, help="seed of the story (default: 7)")
    demo.add_argument("--headless", action="store_true", help="no visitor: print JSON lines and end")
    demo.add_argument(
        "--until",
        type=positive,
        metavar="SECONDS",
        help="end after so many seconds at --speed (60 at the default speed are the whole story)",
    )


def _operating(commands: Subcommands) -> None:
    module = "gateway.commands"
    setup = commands.add(
        "setup",
        "create what the configured stores need, keys, the first operator",
        "touchpoint setup --config gateway.toml",
        lazy(module, "setup"),
    )
    _config(setup)
    doctor = commands.add(
        "doctor", "check configuration and every connection", "touchpoint doctor", lazy(module, "doctor")
    )
    _config(doctor)
    _json(doctor)
    _keys(commands, module)
    _tokens(commands, module)
    _users(commands, "gateway.commands_users")
    _quarantine(commands, module)
    bulk = commands.add(
        "import",
        "take owners, devices and workshops from a file: all or none",
        "touchpoint import fleet.csv",
        lazy("gateway.commands_import", "import_file"),
    )
    _config(bulk)
    _json(bulk)
    bulk.add_argument("file", metavar="FILE.csv", help="the first line holds the names: type, id, name, …")
    journal = commands.add("journal", "look at the journal", "touchpoint journal status")
    status = Subcommands(journal, "journal_command").add(
        "status",
        "positions, lag and size",
        "touchpoint journal status --json",
        lazy(module, "journal_status"),
    )
    _config(status)
    _json(status)
    _outbox(commands, module)
    _mail(commands, module)


def _keys(commands: Subcommands, module: str) -> None:
    keys = commands.add("keys", "the keys that secrets are sealed with", "touchpoint keys rotate")
    rotate = Subcommands(keys, "keys_command").add(
        "rotate",
        "seal the database's secrets under a new key, and forget the one before",
        "touchpoint keys rotate",
        lazy(module, "keys_rotate"),
    )
    _config(rotate)


def _tokens(commands: Subcommands, module: str) -> None:
    token = commands.add(
        "token", "create, list and revoke bearer tokens", "touchpoint token create --role operator"
    )
    tokens = Subcommands(token, "token_command")
    create = tokens.add(
        "create",
        "print a new token, once",
        "touchpoint token create --role owner --subject ID",
        lazy(module, "token_create"),
    )
    _config(create)
    create.add_argument("--role", required=True, choices=("operator", "workshop", "owner", "integration"))
    create.add_argument(
        "--subject",
        metavar="ID",
        help="the owner or workshop it is for; of an operator or integration its name",
    )
    create.add_argument("--ttl", default="90d", help="how long it lasts: 30m, 12h, 90d (default: 90d)")
    listing = tokens.add(
        "list", "list tokens, never their secrets", "touchpoint token list", lazy(module, "token_list")
    )
    _config(listing)
    _json(listing)
    revoke = tokens.add("revoke", "end a token", "touchpoint token revoke ID", lazy(module, "token_revoke"))
    _config(revoke)
    revoke.add_argument("id")


def _users(commands: Subcommands, module: str) -> None:
    user = commands.add(
        "user",
        "invite, list and end accounts of people at work",
        "touchpoint user add --role operator --email ana@example.com --name Ana",
    )
    users = Subcommands(user, "user_command")
    add = users.add(
        "add",
        "invite somebody; prints the link with which the account begins, once",
        "touchpoint user add --role workshop --workshop ID --email ben@example.com --name Ben --runs",
        lazy(module, "user_add"),
    )
    _config(add)
    add.add_argument("--role", required=True, choices=("operator", "workshop"))
    add.add_argument("--workshop", metavar="ID", help="which workshop, with --role workshop")
    add.add_argument("--email", required=True, help="the address to sign in with")
    add.add_argument("--name", required=True, help="what they are called, and what is written down of them")
    add.add_argument(
        "--runs", action="store_true", help="runs the workshop or after-sales: also people, hours, calendars"
    )
    listing = users.add("list", "list accounts", "touchpoint user list", lazy(module, "user_list"))
    _config(listing)
    _json(listing)
    again = users.add(
        "invite",
        "print a new link, for somebody who lost what they signed in with",
        "touchpoint user invite ben@example.com",
        lazy(module, "user_invite"),
    )
    _config(again)
    again.add_argument("email")
    end = users.add(
        "end",
        "end an account and its sessions",
        "touchpoint user end ben@example.com",
        lazy(module, "user_end"),
    )
    _config(end)
    end.add_argument("email")


def _quarantine(commands: Subcommands, module: str) -> None:
    quarantine = commands.add(
        "quarantine", "messages that could not be decoded", "touchpoint quarantine list"
    )
    actions = Subcommands(quarantine, "quarantine_command")
    listing = actions.add(
        "list",
        "newest first",
        "touchpoint quarantine list --reason not_json",
        lazy(module, "quarantine_list"),
    )
    _config(listing)
    _json(listing)
    listing.add_argument("--reason")
    listing.add_argument("--limit", type=count, default=50)
    show = actions.add(
        "show", "one message as it came", "touchpoint quarantine show 4711", lazy(module, "quarantine_show")
    )
    _config(show)
    show.add_argument("position", type=int)
    replay = actions.add(
        "replay",
        "put messages into the journal again",
        "touchpoint quarantine replay --reason bad_ts",
        lazy(module, "quarantine_replay"),
    )
    _config(replay)
    replay.add_argument("positions", type=int, nargs="*")
    replay.add_argument("--reason", help="all with this reason")


def _outbox(commands: Subcommands, module: str) -> None:
    outbox = commands.add("outbox", "what leaves the house", "touchpoint outbox list --state dead")
    actions = Subcommands(outbox, "outbox_command")
    listing = actions.add(
        "list", "newest first", "touchpoint outbox list --state dead", lazy(module, "outbox_list")
    )
    _config(listing)
    _json(listing)
    listing.add_argument("--state", choices=("pending", "leased", "sent", "dead", "dropped"))
    listing.add_argument("--limit", type=count, default=50)
    retry = actions.add(
        "retry", "send dead letters again", "touchpoint outbox retry ID", lazy(module, "outbox_retry")
    )
    _config(retry)
    retry.add_argument("ids", nargs="+")


def _mail(commands: Subcommands, module: str) -> None:
    mail = commands.add("mail", "mail that comes in", "touchpoint mail list --waiting")
    actions = Subcommands(mail, "mail_command")
    receive = actions.add(
        "receive",
        "take one mail from standard input (< message); exit status 75 says: come again later",
        "touchpoint mail receive --to replies+abc@example.com",
        lazy(module, "mail_receive"),
    )
    _config(receive)
    receive.add_argument(
        "--to",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="recipient of the envelope; without any, those in the headers",
    )
    listing = actions.add(
        "list", "what came in, newest first", "touchpoint mail list --waiting", lazy(module, "mail_list")
    )
    _config(listing)
    _json(listing)
    listing.add_argument("--waiting", action="store_true", help="only what waits for somebody")
    listing.add_argument("--limit", type=count, default=50)


def _rules(commands: Subcommands) -> None:
    module = "gateway.commands"
    rules = commands.add("rules", "check, test and try out rules", "touchpoint rules check my-rules.yaml")
    actions = Subcommands(rules, "rules_command")
    for name, text, function in (
        ("check", "check rule files against the signals", "rules_check"),
        ("test", "run the examples of rule files", "rules_test"),
    ):
        parser = actions.add(name, text, f"touchpoint rules {name} my-rules.yaml", lazy(module, function))
        _rule_files(parser)
        _json(parser)
    explain = actions.add(
        "explain",
        "say why a rule is, or is not, true for a device",
        "touchpoint rules explain brake-pads-front-worn --device car-1 --at 2026-11-22T23:00:00Z",
        lazy(module, "rules_explain"),
    )
    explain.add_argument("rule", metavar="RULE")
    explain.add_argument("--device", metavar="ID", required=True)
    explain.add_argument(
        "--at", metavar="TIME", help="as the time series says it was then (default: as the rules know it now)"
    )
    explain.add_argument(
        "--language", choices=("en", "de"), help="default: that of LC_ALL, LC_MESSAGES or LANG"
    )
    _config(explain)
    _json(explain)
    _backtest(actions)
    schema = actions.add(
        "schema",
        "print the JSON Schema of rule files, or of signal files, for editors",
        "touchpoint rules schema --signals my-signals.yaml > rules.schema.json",
        lazy(module, "rules_schema"),
    )
    schema.add_argument(
        "of", nargs="?", choices=("rules", "signals"), default="rules", help="files of these (default: rules)"
    )
    _config(schema)
    _signals(schema)


def _messages(commands: Subcommands) -> None:
    module = "gateway.commands_messages"
    messages = commands.add("messages", "how messages read, and what is missing", "touchpoint messages check")
    actions = Subcommands(messages, "messages_command")
    preview = actions.add(
        "preview",
        "say how a rule's matter, or any text, reads",
        "touchpoint messages preview brake-pads-front-worn --language de --channel push",
        lazy(module, "preview"),
    )
    preview.add_argument("what", metavar="RULE|KEY", help="a rule's id, or a text's key such as ledger.sent")
    preview.add_argument("--language", action="append", choices=("en", "de"), help="default: all")
    preview.add_argument(
        "--device", metavar="ID", help="with this device's values; default: the rule's example"
    )
    preview.add_argument(
        "--channel", action="append", choices=("push", "email", "display"), help="default: all"
    )
    check = actions.add(
        "check",
        "say what is missing in a language, which placeholders nothing fills, which plurals lack a form",
        "touchpoint messages check",
        lazy(module, "check"),
    )
    for parser in (preview, check):
        _config(parser)
        parser.add_argument(
            "--rules",
            action="append",
            default=[],
            metavar="PATH",
            help="rule files (default: the configured set)",
        )
        _signals(parser)
        _json(parser)


def _rule_files(parser: argparse.ArgumentParser) -> None:
    _config(parser)
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help="files or folders (default: the configured set)"
    )
    _signals(parser)


def _signals(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--signals",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        metavar="PATH",
        help="signal files or folders, beside the configured ones",
    )


def _backtest(actions: Subcommands) -> None:
    backtest = actions.add(
        "backtest",
        "run rules over recorded readings and say what they would have led to",
        BACKTEST_EXAMPLES,
        lazy("gateway.backtest", "command"),
    )
    _rule_files(backtest)
    backtest.add_argument(
        "--readings",
        type=Path,
        metavar="FILE",
        help="tidy CSV, also .gz: columns device, ts, one per signal (default: the configured time series)",
    )
    backtest.add_argument(
        "--from", dest="start", metavar="TIME", help="count from here on; all before only warms the windows"
    )
    backtest.add_argument("--to", dest="end", metavar="TIME", help="stop here")
    backtest.add_argument(
        "--truth", type=Path, metavar="FILE", help="what really happened, CSV: device, ts, kind"
    )
    backtest.add_argument(
        "--truth-kind",
        default="failure:*",
        metavar="PATTERN",
        help="which of these events a finding should announce (default: failure:*)",
    )
    backtest.add_argument(
        "--within", default="48h", metavar="SPAN", help="how long before it, at most (default: 48h)"
    )
    backtest.add_argument(
        "--against", type=Path, metavar="PATH", help="other rules, usually the version before: side by side"
    )
    backtest.add_argument("--kind", help="what all devices are (default: as registered, or as the rules say)")
    backtest.add_argument(
        "--devices", type=Path, metavar="FILE", help="CSV: device, and any of kind, model, time_zone, owner"
    )
    backtest.add_argument(
        "--jobs",
        type=count,
        default=os.cpu_count() or 1,
        help="processes for --readings (default: all cores)",
    )
    _json(backtest)


def _simulating(commands: Subcommands) -> None:
    module = "gateway.commands"
    sim = commands.add("sim", "the device simulator", "touchpoint sim run --broker mqtt://127.0.0.1:1883")
    actions = Subcommands(sim, "sim_command")
    run = _sim_run(actions, module)
    replay = _sim_replay(actions, module)
    _sim_score(actions)
    load = _sim_load(actions, module)
    for parser in (run, replay, load):
        parser.add_argument("--broker", default="mqtt://127.0.0.1:1883", help="mqtt://host[:port]")
        parser.add_argument("--username", default="")
        parser.add_argument("--password", default="")


def _sim_run(actions: Subcommands, module: str) -> argparse.ArgumentParser:
    run = actions.add(
        "run",
        "play a scenario's devices against a broker",
        "touchpoint sim run small-fleet --speed 60",
        lazy(module, "sim_run"),
    )
    run.add_argument(
        "scenario", nargs="?", default="small-fleet", help="a shipped name or a file (default: small-fleet)"
    )
    run.add_argument("--seed", type=int, default=7)
    run.add_argument("--speed", type=positive, default=60.0, help="scenario seconds a second")
    run.add_argument("--until", type=positive, metavar="SECONDS", help="end after so many seconds")
    run.add_argument(
        "--out", type=Path, metavar="FOLDER", help="write readings, truth and register as files instead"
    )
    run.add_argument(
        "--jobs", type=count, default=os.cpu_count() or 1, help="processes for --out (default: one a core)"
    )
    run.add_argument("--ca-file", metavar="FILE", help="what mqtts:// is checked against")
    run.add_argument(
        "--certs", type=Path, metavar="FOLDER", help="DEVICE.pem and DEVICE.key of every device, for mqtts://"
    )
    return run


def _sim_replay(actions: Subcommands, module: str) -> argparse.ArgumentParser:
    replay = actions.add(
        "replay",
        "publish recorded readings",
        "touchpoint sim replay trips.csv.gz --speed max",
        lazy(module, "sim_replay"),
    )
    replay.add_argument("file", type=Path)
    replay.add_argument(
        "--speed", type=speed, default="max", help="times real time, or max: as fast as acknowledged"
    )
    return replay


def _sim_score(actions: Subcommands) -> None:
    score = actions.add(
        "score",
        "what rules are worth: a scenario through the gateway, against the truth",
        "touchpoint sim score wear-year --against my-rules.yaml --picture score.svg",
        lazy("gateway.score", "run"),
    )
    score.add_argument(
        "scenario", nargs="?", default="wear-year", help="a shipped name or a file (default: wear-year)"
    )
    score.add_argument(
        "paths", nargs="*", type=Path, metavar="RULES", help="rules (default: the shipped ones)"
    )
    score.add_argument("--against", type=Path, metavar="RULES", help="other rules: side by side")
    score.add_argument("--signals", type=Path, action="append", default=[], metavar="PATH")
    score.add_argument("--seed", type=int, default=7)
    score.add_argument(
        "--step", type=positive, default=3600.0, metavar="SECONDS", help="of scenario time (default: an hour)"
    )
    score.add_argument("--picture", type=Path, metavar="FILE.svg")
    _json(score)


def _sim_load(actions: Subcommands, module: str) -> argparse.ArgumentParser:
    load = actions.add(
        "load",
        "load a broker: many connections or few, at a rate or as fast as acknowledged",
        "touchpoint sim load --connections 4 --messages 200000 --qos 1",
        lazy(module, "sim_load"),
    )
    load.add_argument("--connections", type=count, default=4)
    load.add_argument("--messages", type=count, default=100_000, help="end after so many")
    load.add_argument("--seconds", type=positive, default=60.0, help="end after so long")
    load.add_argument("--rate", type=positive, help="messages a second in all (default: as acknowledged)")
    load.add_argument("--qos", type=int, choices=(0, 1), default=1)
    load.add_argument("--mqtt", choices=("3.1.1", "5"), default="5", help="version of the protocol")
    load.add_argument(
        "--shape", choices=("one", "five", "wide", "array", "senml", "sparkplug"), default="five"
    )
    load.add_argument("--devices", type=count, default=1_000, help="device ids (default: 1000)")
    load.add_argument("--inflight", type=count, default=100, help="a connection (default: 100)")
    load.add_argument("--hold", type=float, default=0.0, metavar="SECONDS", help="stay connected afterwards")
    load.add_argument("--poison", type=part_of_all, default=0.0, help="share of payloads that are noise")
    load.add_argument("--twice", type=part_of_all, default=0.0, help="share of messages that come twice")
    load.add_argument("--drop", type=part_of_all, default=0.0, help="share after which the connection breaks")
    load.add_argument("--seed", type=int, default=7)
    load.add_argument("--ca-file", metavar="FILE", help="what mqtts:// is checked against")
    _json(load)
    return load


def _firmware(commands: Subcommands) -> None:
    module = "gateway.commands_firmware"
    firmware = commands.add("firmware", "keys, releases, rollouts", "touchpoint firmware list")
    actions = Subcommands(firmware, "firmware_command")
    keygen = actions.add(
        "keygen", "make a signing key", "touchpoint firmware keygen signing.key", lazy(module, "keygen")
    )
    keygen.add_argument("path", type=Path)
    _firmware_sign(actions, module)
    _firmware_keys(actions, module)
    _firmware_store(actions, module)
    _firmware_devices(actions, module)
    _firmware_rollouts(actions, module)


def _firmware_sign(actions: Subcommands, module: str) -> None:
    sign = actions.add(
        "sign",
        "sign artifacts as a release, or a document once more; needs no network",
        "touchpoint firmware sign app.swu --key signing.key --version 4.2.2 --sequence 7 --kind car",
        lazy(module, "sign"),
    )
    sign.add_argument("artifact", nargs="*", help="a file, or part=file where there are several parts")
    sign.add_argument("--again", type=Path, default=None, help="manifest or trust document to sign as well")
    sign.add_argument("--key", type=Path, default=None, help="without it the manifest waits for --again")
    sign.add_argument("--version", default="")
    sign.add_argument("--sequence", type=int, default=0, help="grows with every release; never goes back")
    sign.add_argument("--kind", default="", help="device kind it is for")
    sign.add_argument("--model", action="append", default=[], help="model it is for (repeatable)")
    sign.add_argument("--hardware", action="append", default=[], help="revision it is for (repeatable)")
    sign.add_argument("--lowest", type=int, default=0, help="sequence of the lowest release it may replace")
    sign.add_argument("--expires", default=None, help="date after which devices refuse it")
    sign.add_argument("--downgrade", action="store_true", help="devices may go down to it")
    sign.add_argument("--minutes", type=int, default=0, help="how long the product is out of use")
    sign.add_argument("--note", action="append", default=[], help="what is new: en='Charges faster'")


def _firmware_keys(actions: Subcommands, module: str) -> None:
    key = actions.add("key", "who is trusted", "touchpoint firmware key list")
    keys = Subcommands(key, "key_command")
    texts = {
        "init": ("make the first trust document", "init --signer signing.key"),
        "add": ("trust one key more", "add new.key.pub --role release --signer signing.key"),
        "retire": ("a key signs nothing new", "retire 41d3c71595509114 --signer new.key"),
        "revoke": ("nothing a key has signed counts", "revoke 41d3c71595509114 --signer new.key"),
    }
    for name, (text, example) in texts.items():
        one = keys.add(name, text, f"touchpoint firmware key {example}", lazy(module, f"key_{name}"))
        _config(one)
        if name != "init":
            one.add_argument("key", type=Path if name == "add" else str)
            one.add_argument("--held", type=Path, default=None, help="trust document to go on from, offline")
        if name == "add":
            one.add_argument("--role", action="append", required=True, help="trust, release or index")
        one.add_argument("--signer", type=Path, action="append", required=True, help="key that signs it")
        one.add_argument("--out", type=Path, default=None, help="only write it; `firmware trust` takes it")
    listing = keys.add(
        "list", "keys that are trusted", "touchpoint firmware key list", lazy(module, "key_list")
    )
    _config(listing)
    _json(listing)
    trust = actions.add(
        "trust",
        "follow a signed trust document",
        "touchpoint firmware trust trust-2.json",
        lazy(module, "trust"),
    )
    _config(trust)
    trust.add_argument("document", type=Path)


def _firmware_store(actions: Subcommands, module: str) -> None:
    upload = actions.add(
        "upload",
        "check a signed release and store it",
        "touchpoint firmware upload app.swu.manifest app.swu",
        lazy(module, "upload"),
    )
    upload.add_argument("manifest", type=Path)
    upload.add_argument("artifact", type=Path, nargs="*")
    listing = actions.add(
        "list", "releases in store", "touchpoint firmware list", lazy(module, "releases_list")
    )
    _json(listing)
    withdraw = actions.add(
        "withdraw",
        "no device gets a release any more",
        "touchpoint firmware withdraw car 4.2.2",
        lazy(module, "withdraw"),
    )
    withdraw.add_argument("kind")
    withdraw.add_argument("version")
    verify = actions.add(
        "verify", "read every artifact back", "touchpoint firmware verify", lazy(module, "verify")
    )
    for one in (upload, listing, withdraw, verify):
        _config(one)


def _firmware_devices(actions: Subcommands, module: str) -> None:
    texts = {
        "device": ("issue a device's token", "device car-keller"),
        "describe": ("say what rollouts choose by", "describe car-keller --tag fleet --country DE"),
        "history": ("what a device was given, and what it reported", "history car-keller"),
        "assign": ("give one device a release", "assign car-keller 4.2.2"),
        "cancel": ("ask a device to stop what it is at", "cancel car-keller"),
    }
    made = {}
    for name, (text, example) in texts.items():
        made[name] = actions.add(name, text, f"touchpoint firmware {example}", lazy(module, name))
        made[name].add_argument("device")
        _config(made[name])
    made["device"].add_argument("--kind", default=None)
    made["device"].add_argument("--model", default=None)
    made["describe"].add_argument("--tag", action="append", help="in place of those it has (repeatable)")
    made["describe"].add_argument("--country", default=None, help="ISO 3166-1, two letters")
    made["describe"].add_argument("--hardware", default=None, help="its hardware revision")
    made["assign"].add_argument("version")
    made["assign"].add_argument("--mode", choices=("forced", "soft", "downloadonly"), default="forced")
    made["assign"].add_argument("--without-asking", action="store_true", help="although somebody uses it")
    _json(made["history"])


def _firmware_rollouts(actions: Subcommands, module: str) -> None:
    rollout = actions.add("rollout", "releases for many devices", "touchpoint firmware rollout list")
    ways = Subcommands(rollout, "rollout_command")
    new = ways.add(
        "new",
        "make a rollout from a plan, or say what it would do",
        "touchpoint firmware rollout new car 4.2.2 plan.json --dry-run",
        lazy(module, "rollout_new"),
    )
    new.add_argument("kind")
    new.add_argument("version")
    new.add_argument("plan", type=Path, help='{"groups": [{"name": "first", "percent": 1}, …]}')
    new.add_argument("--name", default="")
    new.add_argument("--dry-run", action="store_true", help="say who would get what, when; make nothing")
    listing = ways.add(
        "list", "rollouts, newest first", "touchpoint firmware rollout list", lazy(module, "rollout_list")
    )
    shown = ways.add(
        "show", "how far one is", "touchpoint firmware rollout show 1", lazy(module, "rollout_show")
    )
    shown.add_argument("rollout", type=int)
    for one in (new, listing, shown):
        _config(one)
        _json(one)
    for move in ("start", "pause", "resume", "stop"):
        one = ways.add(
            move, f"{move} a rollout", f"touchpoint firmware rollout {move} 1", lazy(module, "rollout_steer")
        )
        _config(one)
        one.add_argument("rollout", type=int)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; what cannot run says why in one line and exits with 2."""
    arguments = make_parser().parse_args(argv)
    run: Command = arguments.run
    try:
        return run(arguments)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 0
    except Exception as error:
        problem = explain(error)
        if problem is None:
            raise
        print(f"touchpoint {arguments.command}: {problem}", file=sys.stderr)
        return CANNOT_RUN


def explain(error: Exception) -> str | None:
    """What to say of an error that a user can mend; None for one that is ours."""
    from gateway.ports import TROUBLES

    name = type(error).__name__
    if isinstance(error, (CannotStartError, *TROUBLES)) or name in (
        "JournalFormatError",
        "ScenarioError",
    ):
        return str(error)
    if name == "SettingsError":
        lines = str(error).splitlines()
        return f"{len(lines)} setting{'s are' if len(lines) > 1 else ' is'} wrong:\n  " + "\n  ".join(lines)
    if isinstance(error, OSError):
        return f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
    return None


if __name__ == "__main__":
    sys.exit(main())
