"""Passkeys (WebAuthn level 3): what a browser is asked, and whether what it answers is right.

A passkey is bound to the host of `public_url`; one that is an address (127.0.0.1) can have none, `localhost`
can. The device always asks for finger, face or PIN, so that a passkey alone is two factors. The challenge is
kept by its hash, holds for five minutes and counts once.
"""

from __future__ import annotations

import json
import secrets
from base64 import urlsafe_b64decode
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import webauthn
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    CredentialDeviceType,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from gateway.domain.accounts import Account, Passkey
from gateway.domain.errors import InvalidError

NAME = "Touchpoint"
LABEL_MOST = 60
CREDENTIAL_MOST = 1_400
"""characters of a credential id: 1,023 bytes (WebAuthn, section 5.8.1)"""
_BROKEN = (WebAuthnException, ValueError, TypeError, KeyError)


class RelyingParty:
    """Who passkeys are made for: the host that people see."""

    def __init__(self, public_url: str) -> None:
        parts = urlsplit(public_url)
        self.host = parts.hostname or ""
        self.origin = f"{parts.scheme}://{parts.netloc}"
        self.available = self._possible(parts.scheme)
        """whether browsers make passkeys for this address"""

    def _possible(self, scheme: str) -> bool:
        try:
            ip_address(self.host)
        except ValueError:
            return bool(self.host) and (scheme == "https" or self.host == "localhost")
        return False

    def creation(self, account: Account, known: Sequence[Passkey]) -> tuple[str, Mapping[str, Any]]:
        """(challenge, options) for a new passkey of an account."""
        options = webauthn.generate_registration_options(
            rp_id=self.host,
            rp_name=NAME,
            user_id=account.id.encode(),
            user_name=account.called,
            user_display_name=account.called,
            challenge=secrets.token_bytes(32),
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.REQUIRED,
                user_verification=UserVerificationRequirement.REQUIRED,
            ),
            exclude_credentials=[
                PublicKeyCredentialDescriptor(id=base64url_to_bytes(one.id)) for one in known
            ],
        )
        return bytes_to_base64url(options.challenge), json.loads(webauthn.options_to_json(options))

    def request(self) -> tuple[str, Mapping[str, Any]]:
        """(challenge, options) to sign in with whichever passkey the device has for us."""
        options = webauthn.generate_authentication_options(
            rp_id=self.host,
            challenge=secrets.token_bytes(32),
            user_verification=UserVerificationRequirement.REQUIRED,
        )
        return bytes_to_base64url(options.challenge), json.loads(webauthn.options_to_json(options))

    def created(
        self, answer: Mapping[str, Any], challenge: str, account: Account, label: str, now: int
    ) -> Passkey:
        """The passkey that a device made. Raises InvalidError."""
        try:
            found = webauthn.verify_registration_response(
                credential=dict(answer),
                expected_challenge=base64url_to_bytes(challenge),
                expected_rp_id=self.host,
                expected_origin=self.origin,
                require_user_verification=True,
            )
        except _BROKEN as error:
            raise InvalidError(f"passkey: {error}") from error
        return Passkey(
            id=bytes_to_base64url(found.credential_id),
            account=account.id,
            public_key=found.credential_public_key,
            sign_count=found.sign_count,
            label=" ".join(label.split())[:LABEL_MOST],
            synced=found.credential_device_type is CredentialDeviceType.MULTI_DEVICE,
            created=now,
        )

    def signed(self, answer: Mapping[str, Any], challenge: str, passkey: Passkey) -> int:
        """How often the passkey has signed, if it signed this. Raises InvalidError, also for a counter that
        went back: then there are two of it."""
        try:
            found = webauthn.verify_authentication_response(
                credential=dict(answer),
                expected_challenge=base64url_to_bytes(challenge),
                expected_rp_id=self.host,
                expected_origin=self.origin,
                credential_public_key=passkey.public_key,
                credential_current_sign_count=passkey.sign_count,
                require_user_verification=True,
            )
        except _BROKEN as error:
            raise InvalidError(f"passkey: {error}") from error
        return found.new_sign_count


def answered_challenge(answer: Any) -> str:
    """The challenge that a device says it answers; whether it does is verified afterwards. Raises
    InvalidError."""
    try:
        text = answer["response"]["clientDataJSON"]
        told = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        challenge = told["challenge"]
        if not isinstance(challenge, str) or len(answer["id"]) > CREDENTIAL_MOST:
            raise InvalidError("passkey: not what a browser sends.")
    except (*_BROKEN, RecursionError) as error:
        raise InvalidError("passkey: not what a browser sends.") from error
    return challenge
