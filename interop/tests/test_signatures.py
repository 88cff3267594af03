"""Signed HTTP requests (NIP-98) between Caravel's API, nostr-tools and NDK."""

import json

import pytest
import requests

from caravel.nostr.http_auth import authorization
from caravel.nostr.keys import generate_secret_key, pubkey_of
from interop.tests.support.scripts import ScriptError, running_script
from tenants.models import Tenant

pytestmark = [
    pytest.mark.interop,
    pytest.mark.django_db(transaction=True, serialized_rollback=True),
]


@pytest.fixture(params=["nostr_tools.mjs", "ndk_messages.mjs"])
def library(request):
    return running_script(request.param)


@pytest.fixture
def call(live_server, settings, library):
    """Call the API with a header that the library signs."""
    settings.APP_URL = live_server.url
    key = generate_secret_key()

    def call(method, path, body=None):
        url = live_server.url + path.format(pubkey=pubkey_of(key))
        header = library.call(
            "authorization", secret=key, url=url, method=method, body=body
        )
        # As JSON.stringify() writes it, which is what nostr-tools signs.
        content = json.dumps(body, separators=(",", ":")) if body is not None else None
        headers = {"Authorization": header, "Content-Type": "application/json"}
        return requests.request(
            method.upper(), url, data=content, headers=headers, timeout=60
        )

    return call


# nostr-tools documents the method in lower case.
@pytest.mark.parametrize("write", [str.upper, str.lower])
def test_signature_of_the_library_opens_and_changes_an_account(call, write):
    opened = call(write("POST"), "/api/tenants", {})
    read = call(write("GET"), "/api/tenants/{pubkey}")
    changed = call(
        write("PATCH"), "/api/tenants/{pubkey}", {"email": "bob@example.com"}
    )

    assert [opened.status_code, read.status_code, changed.status_code] == [
        201,
        200,
        200,
    ]
    assert Tenant.objects.get().email == "bob@example.com"


def test_second_equal_request_of_a_second_says_how_to_differ(call):
    call("POST", "/api/tenants", {})

    answers = [call("GET", "/api/tenants/{pubkey}") for _ in range(5)]

    reused = [answer.json() for answer in answers if answer.status_code == 401]
    assert reused, "five requests took five seconds"
    assert all(each["code"] == "auth-reused" for each in reused)
    assert all("nonce" in json.dumps(each) for each in reused)


def test_signature_of_ours_is_accepted_by_nostr_tools():
    key, url = generate_secret_key(), "https://caravel.example/api/tenants?limit=2"
    header = authorization(key, url=url, method="POST", body=b"{}")
    library = running_script("nostr_tools.mjs")

    assert library.call("accepts", header=header, url=url, method="post") is True
    with pytest.raises(ScriptError, match="url tag"):
        library.call("accepts", header=header, url=f"{url}0", method="post")
    with pytest.raises(ScriptError, match="method tag"):
        library.call("accepts", header=header, url=url, method="get")
