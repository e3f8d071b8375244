"""Accounts of people at work, by command: the first one of a house, and who lost everything."""

from __future__ import annotations

import argparse
import time

from gateway.commands import settings_of, show, with_stores
from gateway.domain.access import Role
from gateway.domain.accounts import Account, Rank
from gateway.domain.errors import CannotStartError, NotFoundError
from gateway.domain.times import rfc3339
from gateway.flow import accounts
from gateway.ports import Records


def _now() -> int:
    return time.time_ns() // 1_000_000


def _named(records: Records, email: str) -> Account:
    found = records.accounts.by_name(email.strip().lower())
    if found is None:
        raise NotFoundError(f"There is no account {email}: touchpoint user list")
    return found


def _link(arguments: argparse.Namespace, secret: str) -> str:
    return f"{settings_of(arguments).public_url}/sign-in/invitation/{secret}"


def user_add(arguments: argparse.Namespace) -> int:
    """A new account, and the link with which it begins."""
    rank = Rank.RUNS if arguments.runs else Rank.STAFF
    if arguments.role == "workshop" and not arguments.workshop:
        raise CannotStartError("--role workshop needs --workshop ID, which workshop it is")

    def work(records: Records) -> str:
        made = accounts.invite(
            records, Role(arguments.role), arguments.workshop, arguments.email, arguments.name, rank, _now()
        )
        return made[1]

    secret = with_stores(arguments, lambda stores: stores.database.write(work))
    print(_link(arguments, secret))
    return 0


def user_list(arguments: argparse.Namespace) -> int:
    """Everybody at work who has an account, without anything that opens it."""

    def work(records: Records) -> list[dict[str, object]]:
        return [
            {
                "name": account.name,
                "called": account.called,
                "role": account.role.value,
                "workshop": account.subject,
                "rank": account.rank.value,
                "set_up": accounts.set_up(records, account),
                "created": rfc3339(account.created),
            }
            for account in records.accounts.page()
            if account.ended is None
        ]

    rows = with_stores(arguments, lambda stores: stores.database.read(work))
    show(rows, as_json=arguments.json, empty="no accounts yet: touchpoint user add --role operator …")
    return 0


def user_invite(arguments: argparse.Namespace) -> int:
    """A new link for an account that there is."""

    def work(records: Records) -> str:
        return accounts.invite_again(records, _named(records, arguments.email).id, _now())

    secret = with_stores(arguments, lambda stores: stores.database.write(work))
    print(_link(arguments, secret))
    return 0


def user_end(arguments: argparse.Namespace) -> int:
    """End an account; a running gateway refuses its sessions within a second."""

    def work(records: Records) -> None:
        accounts.end(records, _named(records, arguments.email).id, _now())

    with_stores(arguments, lambda stores: stores.database.write(work))
    print(f"ended {arguments.email}")
    return 0
