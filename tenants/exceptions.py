from caravel.core.exceptions import CaravelError


class NotDelivered(CaravelError):
    """A message to a tenant reached nobody; it is to be sent again later."""

    code = "notice-not-delivered"
    status = 503


class AddressRefused(CaravelError):
    """The mail server will never take an e-mail to this address."""

    code = "email-address-refused"
    status = 422


class IdentityNotPublished(CaravelError):
    """No relay took some of what we publish of ourselves."""

    code = "identity-not-published"
    status = 503


# --- NIP-98: each code tells a developer what is wrong with the header


class AuthFailed(CaravelError):
    """The request is not signed as NIP-98 has it."""

    code = "auth-malformed"
    status = 401

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": "Nostr"}


class AuthMissing(AuthFailed):
    """There is no Authorization header."""

    code = "auth-missing"


class AuthMalformed(AuthFailed):
    """The header is not `Nostr` and a Nostr event as JSON in base64."""


class AuthNotSigned(AuthFailed):
    """The event's id or signature is wrong."""

    code = "auth-not-signed"


class AuthWrongKind(AuthFailed):
    """The event's kind is not 27235."""

    code = "auth-wrong-kind"


class AuthExpired(AuthFailed):
    """The event was made more than 60 seconds ago."""

    code = "auth-expired"


class AuthTooEarly(AuthFailed):
    """The event is dated more than 60 seconds ahead."""

    code = "auth-too-early"


class AuthWrongUrl(AuthFailed):
    """The event has not exactly one tag `u`, or it is not this request's address."""

    code = "auth-wrong-url"


class AuthWrongMethod(AuthFailed):
    """The event has not exactly one tag `method`, or it is not this request's."""

    code = "auth-wrong-method"


class AuthPayloadMissing(AuthFailed):
    """The request has a body, and the event no tag `payload`."""

    code = "auth-payload-missing"


class AuthWrongPayload(AuthFailed):
    """The tag `payload` is not the SHA-256 of the body in hex."""

    code = "auth-wrong-payload"


class AuthReused(AuthFailed):
    """The event was used before: sign another for each request."""

    code = "auth-reused"
