"""Base classes of all expected errors."""

from collections.abc import Mapping
from math import ceil

#: `Retry-After` of a 503 response, in seconds, unless the error sets its own.
_DEFAULT_RETRY_AFTER = 5


class CaravelError(Exception):
    """Expected error: a stable `code` for machines and a message for people."""

    code = "error"
    status = 400
    #: Meaning of each code, for a class that has several codes.
    variants: Mapping[str, str] = {}
    #: Seconds after which the same request may succeed; 0 if unknown.
    retry_after: float = 0.0

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code:
            self.code = code

    @classmethod
    def codes(cls) -> Mapping[str, str]:
        """Return the meaning of each code that an error of this class can have."""
        first, *_ = (cls.__doc__ or cls.__name__).split("\n\n")
        meaning = " ".join(first.split())
        return cls.variants or {cls.code: meaning}

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]"

    @property
    def details(self) -> Mapping[str, object]:
        """Additional fields of the API response that a caller can act on."""
        return {}

    @property
    def headers(self) -> dict[str, str]:
        """HTTP headers of the response."""
        default = _DEFAULT_RETRY_AFTER if self.status == 503 else 0
        seconds = ceil(self.retry_after) or default
        return {"Retry-After": str(seconds)} if seconds else {}


class Invalid(CaravelError):
    """The input is invalid."""

    code = "invalid"
    status = 422


class UnknownCurrency(Invalid):
    """Stripe does not support this currency."""

    code = "currency-unknown"


class UnknownField(Invalid):
    """The object has no such field, or the field cannot be set."""

    code = "field-unknown"


class NotFound(CaravelError):
    """The object does not exist, or it does not belong to the caller."""

    code = "not-found"
    status = 404


class Conflict(CaravelError):
    """The request conflicts with the current state."""

    code = "conflict"
    status = 409


class LeaseLost(Conflict):
    """Another worker holds the lease on this work now and does the rest."""

    code = "lease-lost"


class Forbidden(CaravelError):
    """The caller is authenticated but not allowed to do this."""

    code = "forbidden"
    status = 403


class Unavailable(CaravelError):
    """A required service is temporarily unavailable."""

    code = "unavailable"
    status = 503
    retry_after = 5.0


class BodyTooLarge(Invalid):
    """The request body is larger than 1 MiB."""

    code = "body-too-large"
    status = 413
