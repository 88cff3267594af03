"""Errors in zooid's responses, with what the operator has to change.

zooid's own text is not repeated: it is untrusted, and may quote what was sent.
https://github.com/coracle-social/zooid/blob/master/zooid/api.go
"""

import time
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from caravel.core.http_client import Response
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
    401: "its own URL is not ZOOID_API_URL",
    403: "the robot's public key is not in its API_WHITELIST",
    404: "its API_HOST is not the host of ZOOID_API_URL",
    405: "its version does not support listing members",
    409: "its version reports a conflict that is not known here",
    413: "a proxy limits the size of requests to it",
}
# Parts of a configuration that zooid names if it does not accept them.
_FIELDS = ("info.pubkey", "schema", "secret", "host", "json")


def require_ok(response: Response) -> None:
    """Raise ZooidUnavailable or ZooidRefused unless a read was answered with 200."""
    if response.status >= 500 or response.status == HTTPStatus.TOO_MANY_REQUESTS:
        raise ZooidUnavailable(f"zooid answered {response.status}.")
    if response.status != HTTPStatus.OK:
        raise _refused(response)


def require_done(response: Response, status: HTTPStatus = HTTPStatus.OK) -> None:
    """Raise an error unless zooid reports that it has done what was requested."""
    if response.status == HTTPStatus.TOO_MANY_REQUESTS:
        raise ZooidUnavailable("zooid answered 429.")
    if response.status >= 500 or response.status == HTTPStatus.REQUEST_TIMEOUT:
        raise ZooidOutcomeUnknown(f"zooid answered {response.status}.")
    _raise_for_conflict(response)
    if 300 <= response.status < 500:
        raise _refused(response)
    if response.status != status or "message" not in _object(response):
        text = f"zooid answered {response.status}, but not as zooid does: "
        raise ZooidOutcomeUnknown(f"{text}ZOOID_API_URL may be that of another server.")


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


def _refused(response: Response) -> ZooidRefused:
    reason = _REASONS.get(response.status, "this status is unexpected")
    if response.status == HTTPStatus.UNAUTHORIZED:
        reason += _skew(response)
    if response.status == HTTPStatus.BAD_REQUEST:
        reason = _invalid(response)
    return ZooidRefused(f"zooid answered {response.status}: {reason}.")


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


def _invalid(response: Response) -> str:
    text = _error(response)
    named = next((field for field in _FIELDS if field in text), "")
    field = f"{named} in the configuration" if named else "the configuration"
    return f"its version does not accept {field}"


def _error(response: Response) -> str:
    """Return zooid's text, to compare it; it is never repeated."""
    error = _object(response).get("error")
    return error if isinstance(error, str) else ""


def _object(response: Response) -> dict[str, object]:
    content = json_or_none(response)
    return content if isinstance(content, dict) else {}
