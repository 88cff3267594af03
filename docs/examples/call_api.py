"""NSEC=nsec1… python call_api.py POST https://caravel.example/api/tenants '{}'"""

import base64
import hashlib
import json
import os
import secrets
import sys
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin

import requests
from pynostr.event import Event
from pynostr.key import PrivateKey


def call(key: PrivateKey, method: str, url: str, body: str = "") -> requests.Response:
    tags = [["u", url], ["method", method], ["nonce", secrets.token_hex(8)]]
    if body:
        tags.append(["payload", hashlib.sha256(body.encode()).hexdigest()])
    # The event is checked against the server's clock, which may differ from this one.
    health = requests.get(urljoin(url, "/healthz"), timeout=60)
    health.raise_for_status()
    now = parsedate_to_datetime(health.headers.get("Date", ""))
    event = Event("", tags=tags, kind=27235, created_at=int(now.timestamp()))
    event.sign(key.hex())
    token = base64.b64encode(json.dumps(event.to_dict()).encode()).decode()
    auth = {"Authorization": f"Nostr {token}"}
    return requests.request(method, url, data=body.encode(), headers=auth, timeout=60)


def main(nsec: str, arguments: list[str]) -> str:
    if not nsec or len(arguments) not in (2, 3):
        sys.exit(f"Usage: {__doc__}")
    try:
        key = PrivateKey.from_nsec(nsec)
    except (TypeError, ValueError):
        sys.exit("NSEC is not a secret key: it starts with nsec1.")
    try:
        return call(key, *arguments).text
    except (requests.RequestException, ValueError) as exc:
        sys.exit(f"No response: {exc}")


if __name__ == "__main__":
    print(main(os.environ.get("NSEC", ""), sys.argv[1:]))
