"""Telling who calls the JSON API."""

from dataclasses import dataclass

from django.conf import settings
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from tenants.services import http_auth


@dataclass(frozen=True)
class Caller:
    """Who signed a request; nothing is known of them but their key."""

    pubkey: str
    is_authenticated = True

    @property
    def is_admin(self) -> bool:
        return self.pubkey in settings.ADMIN_PUBKEYS


class NostrAuthentication(BaseAuthentication):
    """`Authorization: Nostr <event>`, as NIP-98 has it.

    Whatever proxies have made of the address: what is signed begins with APP_URL.
    """

    def authenticate(self, request: Request) -> tuple[Caller, None]:
        """Return the caller. Raises AuthFailed: there is no other way in."""
        signed = http_auth.SignedRequest(
            header=request.headers.get("Authorization", ""),
            method=request.method or "",
            url=settings.APP_URL + request.get_full_path(),
            body=request.body,
        )
        return Caller(http_auth.authenticate(signed)), None

    def authenticate_header(self, request: Request) -> str:
        return "Nostr"
