"""zooid, the server that hosts the relays: its management API, asked as the robot."""

import json
import re
from typing import Any
from uuid import UUID

import requests
from django.conf import settings

from caravel.core.http_client import RequestFailed, Response, ResponseTooLarge, get
from caravel.nostr.http_auth import authorization
from relays.exceptions import ZooidRefused, ZooidUnavailable

#: Seconds that zooid has for its answer, and how many bytes: some 60,000 members.
TIMEOUT = 5.0
LARGEST = 4 * 1024 * 1024
_PUBKEY = re.compile(r"[0-9a-f]{64}")
_REASONS = {
    401: "it takes another address for its own than ZOOID_API_URL",
    403: "the robot's public key is not in its API_WHITELIST",
    404: "its API_HOST is not the host of ZOOID_API_URL",
    405: "it is too old to list members",
}


class Zooid:
    """The calls we make. Each raises ZooidUnavailable or ZooidRefused.

    Neither repeats zooid's words. Not inside a transaction.
    """

    def list_members(self, relay_id: UUID) -> list[str]:
        """Return the public keys in hex of a relay's members, in zooid's order.

        There are none of a relay that zooid was never given.
        """
        answer = _get(f"/relay/{relay_id}/members")
        if _lacks_relay(answer):
            return []
        _require_ok(answer)
        return _members(_said(answer))


def _get(path: str) -> Response:
    url = f"{settings.ZOOID_API_URL}{path}"
    try:
        return get(url, timeout=TIMEOUT, max_bytes=LARGEST, sign=_sign)
    except ResponseTooLarge as exc:
        raise ZooidRefused("zooid's answer is too large.") from exc
    except RequestFailed as exc:
        raise ZooidUnavailable(f"zooid: {exc}.") from exc


def _said(answer: Response) -> Any:
    """Return what the body says; None if it is not JSON."""
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        return None


def _sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Sign a request as it goes out; so no .netrc says otherwise either."""
    request.headers["Authorization"] = authorization(
        settings.ROBOT_SECRET, url=str(request.url), method=str(request.method)
    )
    return request


def _lacks_relay(answer: Response) -> bool:
    """Return whether zooid says that it has no such relay.

    Asked by a name that is not its API_HOST it answers 404 too, but not in JSON.
    """
    said = _said(answer) if answer.status == requests.codes.not_found else None
    return isinstance(said, dict) and [*said] == ["error"]


def _require_ok(answer: Response) -> None:
    if answer.status >= 500 or answer.status == requests.codes.too_many_requests:
        raise ZooidUnavailable(f"zooid answered {answer.status}.")
    if answer.status != requests.codes.ok:
        reason = _REASONS.get(answer.status, "which is no answer to this")
        raise ZooidRefused(f"zooid answered {answer.status}: {reason}.")


def _members(said: Any) -> list[str]:
    members = said.get("members", "") if isinstance(said, dict) else ""
    if members is None:  # how Go writes a list that nothing was ever put in
        return []
    if not isinstance(members, list) or not all(map(_is_pubkey, members)):
        raise ZooidRefused("zooid's answer is not a list of members.")
    return members


def _is_pubkey(value: Any) -> bool:
    return isinstance(value, str) and bool(_PUBKEY.fullmatch(value))
