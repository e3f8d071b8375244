"""schemathesis asks every operation what its description allows, and some of what it does not, as each role.

Nothing is answered with 500, and what is answered has the status, headers and body that are described. The
seed is fixed, so that the same requests are made every time; `make fuzz` makes many more, of another seed.
"""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from firmware_lab import Works
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from web_lab import NOW, Lab, cast, web_lab

from firmware_api import rollouts
from firmware_api.office import Office
from gateway.domain.access import Role
from gateway.domain.messages import QuarantineRow
from gateway.web.openapi import document

CHECKS = (
    not_a_server_error,
    negative_data_rejection,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
EXAMPLES = int(os.environ.get("TOUCHPOINT_TEST_FUZZ", "0"))
"""Requests by operation and role; `make fuzz` sets it."""
SEED = int(os.environ.get("TOUCHPOINT_TEST_SEED", "20261123"))
SUBJECTS = {Role.OPERATOR: None, Role.OWNER: "jana", Role.WORKSHOP: "north", Role.INTEGRATION: "crm"}
QUICK = {Role.OPERATOR: 2, Role.OWNER: 2, Role.WORKSHOP: 2, Role.INTEGRATION: 1}


def operations(role: Role) -> Iterator[Any]:
    """Of the description, those that end something last."""
    described = {name: part for name, part in document().items() if name != "security"}  # we send our own
    schema = schemathesis.openapi.from_dict(described)
    found = [result.ok() for result in schema.get_all_operations()]
    mine = [op for op in found if role in op.definition.raw["x-roles"]]
    return iter(sorted(mine, key=lambda op: (op.method == "delete", op.path.endswith("/owner"))))


def ask(operation: Any, base: str, headers: dict[str, str], objects: dict[str, str], examples: int) -> None:
    """Make the requests of one operation, half of those that can be about things that are there."""

    @seed(SEED)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        there=st.sampled_from((True, True, False)),
        case=st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in MODES)),
    )
    def one(case: Any, there: bool) -> None:
        if there and case.path_parameters:
            case.path_parameters = {n: objects.get(n, v) for n, v in case.path_parameters.items()}
        response = case.call(base_url=base, headers=headers, timeout=30)
        too_large = response.status_code == 413  # refused as well, which that check does not know
        checks = [check for check in CHECKS if not (too_large and check is negative_data_rejection)]
        case.validate_response(response, checks=checks)

    one()


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.filterwarnings("ignore")
async def test_every_operation_answers_as_it_is_described(tmp_path: Path, role: Role) -> None:
    (tmp_path / "works").mkdir()
    works = Works(tmp_path / "works", NOW)
    office = Office(works.store, lambda: NOW)
    async with web_lab(tmp_path, office=office) as lab:
        objects = await cast(lab) | await more(lab, works)
        caller = await lab.caller(role, SUBJECTS[role])
        faults = await asyncio.to_thread(asked, lab, role, dict(caller.headers), objects)
    await office.close()
    assert faults == [], f"seed {SEED}"


async def more(lab: Lab, works: Works) -> dict[str, str]:
    """What only after-sales have to do with: a release, its rollout, a message in quarantine."""
    works.device("car-1")
    release = works.release(b"2.0.0", "2.0.0", sequence=2)
    plan = rollouts.plan_of({"groups": [{"name": "all"}]})
    rollout = works.store.write(lambda c: rollouts.create(c, "all", release.id, plan, NOW, "me"))
    unread = QuarantineRow(
        position=7,
        received=NOW,
        topic="touchpoint/v1/car-1/telemetry",
        payload=b"{",
        reason="not_json",
        detail="",
    )
    await lab.write(lambda r: r.quarantine.add([unread]))
    [delivery, *_] = await lab.read(lambda r: r.outbox.page(limit=1))
    return {
        "release_id": release.id,
        "rollout_id": str(rollout),
        "position": "7",
        "delivery_id": delivery.id,
        "rule_id": "brake-pads-front-worn",
    }


def asked(lab: Lab, role: Role, headers: dict[str, str], objects: dict[str, str]) -> list[str]:
    """What was wrong, by operation."""
    base = str(lab.client.make_url("")).rstrip("/")
    faults = []
    for operation in operations(role):
        try:
            ask(operation, base, headers, objects, EXAMPLES or QUICK[role])
        except (Exception, BaseExceptionGroup) as error:
            found = getattr(error, "exceptions", (error,))
            faults.append(f"{operation.method.upper()} {operation.path}: {'; '.join(map(str, found))}")
    return faults
