"""What a tenant does from outside: the JSON API, and the page where one pays."""

import json
import re
from typing import Any

import requests
from django.conf import settings

from caravel.nostr import pubkey_of
from caravel.nostr.events import parse_event
from caravel.nostr.http_auth import authorization

_TIMEOUT = 60
_CSRF = re.compile(r'name="csrfmiddlewaretoken" value="(\w+)"')
_BOLT11 = re.compile(r'href="lightning:(\w+)"', re.IGNORECASE)
_LINK = re.compile(r"https?://\S+/pay/\S+")


class Unexpected(RuntimeError):
    """The system answered otherwise than the story has it."""


def ask(secret_key: str, method: str, path: str, data: Any = None) -> Any:
    """Make a signed request; return the data of the answer. Raises Unexpected."""
    url = settings.APP_URL + path
    body = b"" if data is None else json.dumps(data).encode()
    header = authorization(secret_key, url=url, method=method, body=body)
    answer = requests.request(
        method, url, data=body, headers={"Authorization": header}, timeout=_TIMEOUT
    )
    found = answer.json()
    if found["code"] != "ok":
        raise Unexpected(f"{method} {path}: {answer.status_code} {found['code']}")
    return found["data"]


def receipts(secret_key: str) -> list[dict[str, Any]]:
    """Return what the receipts of all one's paid invoices state, each one checked."""
    pubkey = pubkey_of(secret_key)
    invoices = ask(secret_key, "GET", f"/api/tenants/{pubkey}/invoices?status=paid")
    return [_receipt(secret_key, invoice["id"]) for invoice in invoices]


def _receipt(secret_key: str, invoice_id: str) -> dict[str, Any]:
    found = ask(secret_key, "GET", f"/api/invoices/{invoice_id}/receipt")
    event = parse_event(found["event"])
    if event.pubkey != pubkey_of(settings.ROBOT_SECRET):
        raise Unexpected(f"The receipt of {invoice_id} is signed by somebody else.")
    return dict(json.loads(event.content))


def payment_link(message: str) -> str:
    """Return the link to pay that a message has. Raises Unexpected."""
    found = _LINK.search(message)
    if not found:
        raise Unexpected("A message has no link to pay.")
    return found.group().rstrip(".")


def bolt11_on_page(link: str) -> str:
    """Open a payment page, press «Pay with Lightning», return what it then shows.

    Raises Unexpected.
    """
    with requests.Session() as browser:
        page = _read(browser.get(link, timeout=_TIMEOUT))
        (token, *_) = _CSRF.findall(page) or [""]
        pressed = browser.post(
            link,
            data={"csrfmiddlewaretoken": token},
            headers={"Referer": link},
            timeout=_TIMEOUT,
        )
        shown = _BOLT11.search(_read(pressed))
    if not shown:
        raise Unexpected("The page shows no Lightning invoice.")
    return shown.group(1).lower()


def _read(answer: requests.Response) -> str:
    if answer.status_code != 200:
        raise Unexpected(f"The payment page answers {answer.status_code}.")
    return answer.text
