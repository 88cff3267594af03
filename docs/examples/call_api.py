"""NSEC=nsec1… python call_api.py POST https://caravel.example/api/tenants '{}'"""

import base64
import hashlib
import json
import os
import secrets
import sys
from email.utils import parsedate_to_datetime

import requests
from pynostr.event import Event
from pynostr.key import PrivateKey


def call(nsec: str, method: str, url: str, body: str = "") -> requests.Response:
    tags = [["u", url], ["method", method], ["nonce", secrets.token_hex(8)]]
    if body:
        tags.append(["payload", hashlib.sha256(body.encode()).hexdigest()])
    now = parsedate_to_datetime(requests.head(url, timeout=60).headers["Date"])
    event = Event("", tags=tags, kind=27235, created_at=int(now.timestamp()))
    event.sign(PrivateKey.from_nsec(nsec).hex())
    token = base64.b64encode(json.dumps(event.to_dict()).encode()).decode()
    auth = {"Authorization": f"Nostr {token}"}
    return requests.request(method, url, data=body.encode(), headers=auth, timeout=60)


if __name__ == "__main__":
    print(call(os.environ["NSEC"], *sys.argv[1:]).text)
