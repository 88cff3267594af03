"""A tenant's client: the JSON API with signed requests, and the payment page."""

import json
import re
from typing import Any

import requests
from django.conf import settings

from caravel.nostr import pubkey_of
from caravel.nostr.events import parse_event
from caravel.nostr.http_auth import authorization

_TIMEOUT = 60
#: Media type of a relay's description of itself (NIP-11).
_NIP11 = "application/nostr+json"
_CSRF = re.compile(r'name="csrfmiddlewaretoken" value="(\w+)"')
_BOLT11 = re.compile(r'href="lightning:(\w+)"', re.IGNORECASE)
_PAYMENT_URL = re.compile(r"https?://\S+/pay/\S+")


class UnexpectedResponse(RuntimeError):
    """The system responded differently than the demo expects."""


def request(secret_key: str, method: str, path: str, data: Any = None) -> Any:
    """Make a signed request; return the `data` of the response.

    Raises UnexpectedResponse.
    """
    url = settings.APP_URL + path
    body = b"" if data is None else json.dumps(data).encode()
    header = authorization(secret_key, url=url, method=method, body=body)
    response = requests.request(
        method, url, data=body, headers={"Authorization": header}, timeout=_TIMEOUT
    )
    content = response.json()
    if content["code"] != "ok":
        raise UnexpectedResponse(
            f"{method} {path}: {response.status_code} {content['code']}"
        )
    return content["data"]


def fetch_relay(subdomain: str) -> requests.Response:
    """Fetch a relay's NIP-11 document from outside, as its members' clients do."""
    host = f"{subdomain}.{settings.RELAY_DOMAIN}"
    # Not by the name itself: not every resolver knows names under localhost.
    headers = {"Host": host, "Accept": _NIP11}
    return requests.get(settings.ZOOID_RELAYS_URL, headers=headers, timeout=_TIMEOUT)


def list_receipts(secret_key: str) -> list[dict[str, Any]]:
    """Return the contents of the receipts of all paid invoices, signatures verified."""
    pubkey = pubkey_of(secret_key)
    invoices = request(secret_key, "GET", f"/api/tenants/{pubkey}/invoices?status=paid")
    return [_get_receipt(secret_key, invoice["id"]) for invoice in invoices]


def _get_receipt(secret_key: str, invoice_id: str) -> dict[str, Any]:
    receipt = request(secret_key, "GET", f"/api/invoices/{invoice_id}/receipt")
    event = parse_event(receipt["event"])
    if event.pubkey != pubkey_of(settings.ROBOT_SECRET):
        raise UnexpectedResponse(
            f"The receipt of {invoice_id} is not signed by the robot."
        )
    return dict(json.loads(event.content))


def find_payment_url(message: str) -> str:
    """Return the payment page's URL in a message. Raises UnexpectedResponse."""
    match = _PAYMENT_URL.search(message)
    if not match:
        raise UnexpectedResponse("The message has no link to a payment page.")
    return match.group().rstrip(".")


class PaymentPage:
    """An invoice's payment page, opened in a browser of its own."""

    def __init__(self, payment_url: str) -> None:
        self._url = payment_url
        self._browser = requests.Session()
        page = self._browser.get(payment_url, timeout=_TIMEOUT).text
        (self._token, *_) = _CSRF.findall(page) or [""]

    def press_pay(self) -> str:
        """Press «Pay with Lightning»; return the bolt11 that the page shows.

        Raises UnexpectedResponse.
        """
        response = self._browser.post(
            self._url,
            data={"csrfmiddlewaretoken": self._token},
            headers={"Referer": self._url},
            timeout=_TIMEOUT,
        )
        match = _BOLT11.search(response.text)
        if not match:
            raise UnexpectedResponse(
                f"No Lightning invoice on the payment page: {response.status_code}."
            )
        return match.group(1).lower()
