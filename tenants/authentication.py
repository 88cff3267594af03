"""Authentication of API requests (NIP-98)."""

from dataclasses import dataclass

from django.conf import settings
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from tenants.services import http_auth


@dataclass(frozen=True)
class Caller:
    """Signer of a request, known only by its public key; not necessarily a tenant."""

    pubkey: str
    is_authenticated = True

    @property
    def is_admin(self) -> bool:
        return self.pubkey in settings.ADMIN_PUBKEYS


class NostrAuthentication(BaseAuthentication):
    """Authentication by `Authorization: Nostr <event>` (NIP-98)."""

    def authenticate(self, request: Request) -> tuple[Caller, None]:
        """Return the caller. Raises AuthFailed, since it is the only authentication."""
        signed = http_auth.SignedRequest(
            header=request.headers.get("Authorization", ""),
            method=request.method or "",
            # APP_URL, since proxies may change the scheme and the host.
            url=settings.APP_URL + request.get_full_path(),
            body=request.body,
        )
        return Caller(http_auth.authenticate(signed)), None

    def authenticate_header(self, request: Request) -> str:
        return "Nostr"
