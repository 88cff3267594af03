"""The headers that NIP-98 itself prints: what is wrong with them is not their base64.

https://github.com/nostr-protocol/nips/blob/master/98.md
"""

import base64
import json
from datetime import UTC, datetime

import pytest
import time_machine

from caravel.nostr.events import parse_event
from tenants.exceptions import AuthFailed
from tenants.services.http_auth import SignedRequest, authenticate

pytestmark = pytest.mark.django_db
URL = "https://api.snort.social/api/v1/n5sp/list"
CREATED_AT = 1_682_327_852
#: Printed until 2023: its event is signed, but its tag is still called `url`.
FIRST_HEADER = (
    "Nostr eyJpZCI6ImZlOTY0ZTc1ODkwMzM2MGYyOGQ4NDI0ZDA5MmRhODQ5NGVkMjA3Y2JhODIzMTEwYmUz"
    "YTU3ZGZlNGI1Nzg3MzQiLCJwdWJrZXkiOiI2M2ZlNjMxOGRjNTg1ODNjZmUxNjgxMGY4NmRkMDllMThiZm"
    "Q3NmFhYmMyNGEwMDgxY2UyODU2ZjMzMDUwNGVkIiwiY29udGVudCI6IiIsImtpbmQiOjI3MjM1LCJjcmVh"
    "dGVkX2F0IjoxNjgyMzI3ODUyLCJ0YWdzIjpbWyJ1cmwiLCJodHRwczovL2FwaS5zbm9ydC5zb2NpYWwvYX"
    "BpL3YxL241c3AvbGlzdCJdLFsibWV0aG9kIiwiR0VUIl1dLCJzaWciOiI1ZWQ5ZDhlYzk1OGJjODU0Zjk5"
    "N2JkYzI0YWMzMzdkMDA1YWYzNzIzMjQ3NDdlZmU0YTAwZTI0ZjRjMzA0MzdmZjRkZDgzMDg2ODRiZWQ0Nj"
    "dkOWQ2YmUzZTVhNTE3YmI0M2IxNzMyY2M3ZDMzOTQ5YTNhYWY4NjcwNWMyMjE4NCJ9"
)
#: Printed since: its tag is `u`, but its id is that of the first. It has no padding.
HEADER = (
    "Nostr eyJpZCI6ImZlOTY0ZTc1ODkwMzM2MGYyOGQ4NDI0ZDA5MmRhODQ5NGVkMjA3Y2JhODIzMTEwYmUz"
    "YTU3ZGZlNGI1Nzg3MzQiLCJwdWJrZXkiOiI2M2ZlNjMxOGRjNTg1ODNjZmUxNjgxMGY4NmRkMDllMThiZm"
    "Q3NmFhYmMyNGEwMDgxY2UyODU2ZjMzMDUwNGVkIiwiY29udGVudCI6IiIsImtpbmQiOjI3MjM1LCJjcmVh"
    "dGVkX2F0IjoxNjgyMzI3ODUyLCJ0YWdzIjpbWyJ1IiwiaHR0cHM6Ly9hcGkuc25vcnQuc29jaWFsL2FwaS"
    "92MS9uNXNwL2xpc3QiXSxbIm1ldGhvZCIsIkdFVCJdXSwic2lnIjoiNWVkOWQ4ZWM5NThiYzg1NGY5OTdi"
    "ZGMyNGFjMzM3ZDAwNWFmMzcyMzI0NzQ3ZWZlNGEwMGUyNGY0YzMwNDM3ZmY0ZGQ4MzA4Njg0YmVkNDY3ZD"
    "lkNmJlM2U1YTUxN2JiNDNiMTczMmNjN2QzMzk0OWEzYWFmODY3MDVjMjIxODQifQ"
)


def code_of(header: str) -> str:
    with (
        time_machine.travel(datetime.fromtimestamp(CREATED_AT, UTC), tick=False),
        pytest.raises(AuthFailed) as caught,
    ):
        authenticate(SignedRequest(header, "GET", URL, b""))
    return caught.value.code


def event_of(header: str) -> dict[str, object]:
    token = header.removeprefix("Nostr ")
    event = json.loads(base64.b64decode(token + "=" * (-len(token) % 4)))
    assert isinstance(event, dict)
    return event


def test_headers_are_the_printed_ones():
    first, second = event_of(FIRST_HEADER), event_of(HEADER)

    assert parse_event(first).created_at == CREATED_AT
    assert first.pop("tags") == [["url", URL], ["method", "GET"]]
    assert second.pop("tags") == [["u", URL], ["method", "GET"]]
    assert first == second


def test_first_printed_header_lacks_the_tag_of_the_url():
    assert code_of(FIRST_HEADER) == "auth-wrong-url"


def test_printed_header_is_decoded_without_padding_and_its_id_is_wrong():
    assert len(HEADER.removeprefix("Nostr ")) % 4 != 0
    assert code_of(HEADER) == "auth-not-signed"
