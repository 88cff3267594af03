"""Errors in zooid's responses, with what the operator has to change.

zooid's own text is not repeated: it is untrusted, and may quote what was sent.
https://github.com/coracle-social/zooid/blob/master/zooid/api.go
"""

import time
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from django.conf import settings

from caravel.core.http_client import Response
from caravel.nostr import pubkey_of
from relays.clients.zooid.request import json_or_none
from relays.exceptions import (
    HostTaken,
    RelayExists,
    RelayMissing,
    SchemaTaken,
    ZooidOutcomeUnknown,
    ZooidRefused,
    ZooidUnavailable,
)

#: Seconds by which clocks may differ: the window of NIP-98.
MAX_SKEW = 60
_REASONS = {
    400: "its version does not accept the configuration",
    401: "its own URL is not ZOOID_API_URL",
    403: "the robot's public key is not in its API_WHITELIST",
    404: "its API_HOST is not the host of ZOOID_API_URL",
    405: "its version is too old for this call",
    409: "it reports a conflict that this version of Caravel does not know",
    413: "a proxy limits the size of requests",
    429: "a proxy limits the rate of requests",
    500: "it cannot read or write its configurations",
    502: "a proxy does not reach it",
    503: "a proxy does not reach it",
    504: "a proxy does not reach it in time",
}
_REDIRECT = "ZOOID_API_URL leads to another address, which must be set instead"
# Parts of a configuration that zooid names if it does not accept them.
_FIELDS = ("info.pubkey", "schema", "secret", "host", "json")


def require_ok(response: Response) -> None:
    """Raise ZooidUnavailable or ZooidRefused unless a read was answered with 200."""
    if response.status >= 500 or response.status == HTTPStatus.TOO_MANY_REQUESTS:
        raise ZooidUnavailable(_describe(response))
    if response.status != HTTPStatus.OK:
        raise ZooidRefused(_describe(response))


def require_done(response: Response, status: HTTPStatus = HTTPStatus.OK) -> None:
    """Raise an error unless zooid reports that it has done what was requested."""
    if response.status == HTTPStatus.TOO_MANY_REQUESTS:
        raise ZooidUnavailable(_describe(response))
    if response.status >= 500 or response.status == HTTPStatus.REQUEST_TIMEOUT:
        raise ZooidOutcomeUnknown(_describe(response))
    _raise_for_conflict(response)
    if response.status >= 300:
        raise ZooidRefused(_describe(response))
    if response.status != status or "message" not in _object(response):
        raise ZooidOutcomeUnknown(
            f"A server answered {response.status}, but not as zooid does:"
            " ZOOID_API_URL may be the address of another one."
        )


def lacks_relay(response: Response) -> bool:
    """Return whether zooid reports that it does not know the relay."""
    # For a host other than its API_HOST, zooid also answers 404, but not in JSON.
    return response.status == HTTPStatus.NOT_FOUND and [*_object(response)] == ["error"]


def require_relay(response: Response) -> None:
    """Raise RelayMissing if zooid reports that it does not know the relay."""
    if lacks_relay(response):
        raise RelayMissing("zooid has no relay with this id.")


def _raise_for_conflict(response: Response) -> None:
    if response.status != HTTPStatus.CONFLICT:
        return
    text = _error(response)
    if text.startswith("schema "):
        raise SchemaTaken("zooid has another relay with this schema.")
    if text.startswith("host "):
        raise HostTaken("zooid serves another relay under this host.")
    if "with this id" in text:
        raise RelayExists("zooid already has a relay with this id.")


def _describe(response: Response) -> str:
    status = response.status
    reason = _REASONS.get(status, "this status is unexpected")
    if 300 <= status < 400:
        reason = _REDIRECT
    elif status == HTTPStatus.UNAUTHORIZED:
        reason += _proxy() + _skew(response)
    elif status == HTTPStatus.FORBIDDEN:
        reason += f": {pubkey_of(settings.ROBOT_SECRET)}"
    elif status == HTTPStatus.BAD_REQUEST:
        reason += _field(response)
    return f"zooid answered {status}: {reason}."


def _proxy() -> str:
    if not settings.ZOOID_API_URL.startswith("https:"):
        return ""
    return ", or its proxy does not send X-Forwarded-Proto"


def _skew(response: Response) -> str:
    """Return a hint at clocks that differ, if they do.

    zooid of 2026-03 accepts a signature of any time; NIP-98 tells it to check.
    """
    try:
        date = parsedate_to_datetime(response.headers.get("Date", ""))
        seconds = round(time.time() - date.timestamp())
    except (ValueError, OverflowError):
        return ""
    if abs(seconds) <= MAX_SKEW:
        return ""
    ahead = "ahead of" if seconds > 0 else "behind"
    return f", or the time: this server's clock is {abs(seconds)} s {ahead} zooid's"


def _field(response: Response) -> str:
    text = _error(response)
    return next((f" ({field})" for field in _FIELDS if field in text), "")


def _error(response: Response) -> str:
    """Return zooid's text, to compare it; it is never repeated."""
    error = _object(response).get("error")
    return error if isinstance(error, str) else ""


def _object(response: Response) -> dict[str, object]:
    content = json_or_none(response)
    return content if isinstance(content, dict) else {}
