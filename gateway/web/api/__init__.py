"""The JSON API under /api/v1: one module a subject, all written the way endpoint.py says."""

from gateway.web.api import (
    analytics,
    appointments,
    calendars,
    cases,
    claims,
    conversations,
    devices,
    feedback,
    firmware,
    heard,
    operating,
    owners,
    people,
    recalls,
    reports,
    rules,
    touchpoints,
    webhooks,
    workshops,
)
from gateway.web.api.endpoint import Endpoint

SUBJECTS = (
    owners.endpoints,
    devices.endpoints,
    people.endpoints,
    claims.endpoints,
    workshops.endpoints,
    touchpoints.endpoints,
    conversations.endpoints,
    reports.endpoints,
    appointments.endpoints,
    calendars.endpoints,
    feedback.endpoints,
    cases.endpoints,
    analytics.endpoints,
    rules.endpoints,
    recalls.endpoints,
    firmware.endpoints,
    heard.endpoints,
    webhooks.endpoints,
    operating.endpoints,
)

ENDPOINTS: tuple[Endpoint, ...] = tuple(endpoint for subject in SUBJECTS for endpoint in subject.all)
"""Every operation of the API, in the order in which it is documented."""

__all__ = ["ENDPOINTS", "SUBJECTS"]
