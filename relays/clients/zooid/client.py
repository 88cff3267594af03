"""Client of zooid's management API, signed by the robot (NIP-98)."""

import json
import re
from typing import Any
from uuid import UUID

import requests
from django.conf import settings

from caravel.core.http_client import RequestFailed, Response, ResponseTooLarge, get
from caravel.nostr.http_auth import authorization
from relays.exceptions import ZooidRefused, ZooidUnavailable

#: Seconds for a complete response.
TIMEOUT = 5.0
#: Maximum size of a response: about 60,000 members.
MAX_BYTES = 4 * 1024 * 1024
_PUBKEY = re.compile(r"[0-9a-f]{64}")
# Causes for the operator. zooid's own text is not repeated: it is untrusted.
_REASONS = {
    401: "its own URL is not ZOOID_API_URL",
    403: "the robot's public key is not in its API_WHITELIST",
    404: "its API_HOST is not the host of ZOOID_API_URL",
    405: "its version does not support listing members",
}


class Zooid:
    """Calls to zooid. Each raises ZooidUnavailable or ZooidRefused.

    Do not call inside a transaction.
    """

    def list_members(self, relay_id: UUID) -> list[str]:
        """Return the public keys of a relay's members in hex, in zooid's order.

        Returns an empty list for a relay that zooid does not know.
        """
        response = _get(f"/relay/{relay_id}/members")
        if _lacks_relay(response):
            return []
        _require_ok(response)
        return _members(_json_or_none(response))


def _get(path: str) -> Response:
    url = f"{settings.ZOOID_API_URL}{path}"
    try:
        return get(url, timeout=TIMEOUT, max_bytes=MAX_BYTES, sign=_sign)
    except ResponseTooLarge as exc:
        raise ZooidRefused("zooid's response is too large.") from exc
    except RequestFailed as exc:
        raise ZooidUnavailable(f"zooid: {exc}.") from exc


def _json_or_none(response: Response) -> Any:
    try:
        return json.loads(response.body)
    except (ValueError, RecursionError):
        return None


def _sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
    # The prepared URL is what is sent: requests may have normalized ours.
    request.headers["Authorization"] = authorization(
        settings.ROBOT_SECRET, url=str(request.url), method=str(request.method)
    )
    return request


def _lacks_relay(response: Response) -> bool:
    """Return whether zooid reports that it does not know the relay."""
    # For a host other than its API_HOST, zooid also answers 404, but not in JSON.
    if response.status != requests.codes.not_found:
        return False
    content = _json_or_none(response)
    return isinstance(content, dict) and [*content] == ["error"]


def _require_ok(response: Response) -> None:
    if response.status >= 500 or response.status == requests.codes.too_many_requests:
        raise ZooidUnavailable(f"zooid answered {response.status}.")
    if response.status != requests.codes.ok:
        reason = _REASONS.get(response.status, "this status is unexpected")
        raise ZooidRefused(f"zooid answered {response.status}: {reason}.")


def _members(content: Any) -> list[str]:
    members = content.get("members", "") if isinstance(content, dict) else ""
    if members is None:  # Go encodes a nil slice as null
        return []
    if not isinstance(members, list) or not all(
        isinstance(member, str) and _PUBKEY.fullmatch(member) for member in members
    ):
        raise ZooidRefused("zooid's response is not a list of members.")
    return members
