"""Errors of tenants, notices and API authentication.

The docstrings are published as the meanings of the codes.
"""

from caravel.core.exceptions import CaravelError, Conflict, NotFound
from caravel.core.web.throttling import Throttled


class UnknownTenant(NotFound):
    """The tenant does not exist, or is not the caller."""

    code = "tenant-not-found"


class TenantClosed(Conflict):
    """The tenant's account is closed."""

    code = "tenant-closed"


class NewTenantQuota(Throttled):
    """Too many accounts were opened from this address; see `Retry-After`."""

    code = "new-tenant-quota"


class NotDelivered(CaravelError):
    """A message to a tenant was not delivered; it will be sent again."""

    code = "notice-not-delivered"
    status = 503


class AddressRefused(CaravelError):
    """The mail server permanently refuses this address."""

    code = "email-address-refused"
    status = 422


class EmailLinkInvalid(NotFound):
    """The token of a link in an e-mail is not valid."""

    code = "email-link-invalid"


class EmailLinkExpired(CaravelError):
    """The token of a link in an e-mail has expired."""

    code = "email-link-expired"
    status = 410


class IdentityNotPublished(CaravelError):
    """No relay accepted one of the events of our identity."""

    code = "identity-not-published"
    status = 503


# --- NIP-98: one code per cause, so that client developers can find their mistake


class AuthFailed(CaravelError):
    """The request is not signed according to NIP-98."""

    code = "auth-malformed"
    status = 401

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": "Nostr"}


class AuthMissing(AuthFailed):
    """There is no Authorization header."""

    code = "auth-missing"


class AuthMalformed(AuthFailed):
    """The header is not `Nostr` followed by an event as base64-encoded JSON."""


class AuthNotSigned(AuthFailed):
    """The event's id or signature is wrong."""

    code = "auth-not-signed"


class AuthWrongKind(AuthFailed):
    """The event's kind is not 27235."""

    code = "auth-wrong-kind"


class AuthExpired(AuthFailed):
    """The event was created more than 60 seconds ago."""

    code = "auth-expired"


class AuthTooEarly(AuthFailed):
    """The event's time is more than 60 seconds in the future."""

    code = "auth-too-early"


class AuthWrongUrl(AuthFailed):
    """The event must have exactly one `u` tag, with the URL of this request."""

    code = "auth-wrong-url"


class AuthWrongMethod(AuthFailed):
    """The event must have exactly one `method` tag, with the method of this request."""

    code = "auth-wrong-method"


class AuthPayloadMissing(AuthFailed):
    """The request has a body, but the event has no `payload` tag."""

    code = "auth-payload-missing"


class AuthWrongPayload(AuthFailed):
    """The `payload` tag is not the SHA-256 hash of the body in hex."""

    code = "auth-wrong-payload"


class AuthReused(AuthFailed):
    """The event was used before. Add a random tag (`nonce`), or wait for a second."""

    code = "auth-reused"
