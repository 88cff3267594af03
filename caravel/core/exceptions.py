"""What every error of ours has in common."""

from collections.abc import Mapping
from math import ceil

#: Seconds until who was told «not just now» may well try again.
_SOON = 5


class CaravelError(Exception):
    """An expected failure: a stable `code` for machines, a sentence for people."""

    code = "error"
    status = 400
    #: The codes of a class that has several, each with what it means.
    variants: Mapping[str, str] = {}
    #: Seconds until the same request may fare better; 0 if that cannot be said.
    retry_after: float = 0.0

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code:
            self.code = code

    @classmethod
    def codes(cls) -> Mapping[str, str]:
        """Return each code that an error of this class may have, and its meaning."""
        first, *_ = (cls.__doc__ or cls.__name__).split("\n\n")
        meaning = " ".join(first.split())
        return cls.variants or {cls.code: meaning}

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]"

    @property
    def details(self) -> dict[str, str]:
        """What a caller may act on besides the code; part of the answer."""
        return {}

    @property
    def headers(self) -> dict[str, str]:
        """What HTTP wants to be told about it."""
        seconds = ceil(self.retry_after) or (_SOON if self.status == 503 else 0)
        return {"Retry-After": str(seconds)} if seconds else {}


class Invalid(CaravelError):
    """The input is malformed."""

    code = "invalid"
    status = 422


class UnknownCurrency(Invalid):
    """Stripe charges in no such currency."""

    code = "currency-unknown"


class UnknownField(Invalid):
    """The thing has no such field, or not one to be set."""

    code = "field-unknown"


class NotFound(CaravelError):
    """There is no such thing, or it is not the caller's."""

    code = "not-found"
    status = 404


class Conflict(CaravelError):
    """The request does not fit the present state."""

    code = "conflict"
    status = 409


class Forbidden(CaravelError):
    """The caller is known, and may not do this."""

    code = "forbidden"
    status = 403


class Unavailable(CaravelError):
    """Something that we cannot do without is away for a moment."""

    code = "unavailable"
    status = 503
    retry_after = 5.0


class BodyTooLarge(Invalid):
    """No request of ours is longer than 1 MiB."""

    code = "body-too-large"
    status = 413
