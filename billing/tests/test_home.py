"""The first page: what this is, what it costs, how to begin."""

import re

import pytest
from django.urls import reverse

from caravel.nostr import npub, pubkey_of
from relays.models import Plan

pytestmark = pytest.mark.django_db


def html(client) -> str:
    response = client.get("/")
    assert response.status_code == 200
    return str(response.content.decode())


def test_first_page_says_what_this_is_and_how_to_begin(client, settings):
    settings.SELLER_NAME, settings.SELLER_CONTACT = "Ada", "help@relays.example"

    page = html(client)

    assert f"<code>ws://NAME.{settings.RELAY_DOMAIN}" in page
    assert f'href="{reverse("api-docs")}"' in page
    assert npub(pubkey_of(settings.ROBOT_SECRET)) in page
    assert "help@relays.example" in page
    assert "admin" not in page


def test_relays_of_a_site_with_tls_are_named_with_tls(client, settings):
    settings.APP_URL = "https://app.example"

    assert f"<code>wss://NAME.{settings.RELAY_DOMAIN}" in html(client)


def test_first_page_has_the_plans_that_are_for_sale_with_prices(client, prices):
    page = html(client)
    rows = re.findall(r'<tr><th scope="row">(\w+) .*?>(.*?)<.*<td>(.*)</td>', page)
    assert rows == [
        ("Free", "up to 10 members", "free"),
        ("Basic", "up to 100 members, Blossom for files", "$5.00 a month"),
        (
            "Growth",
            "any number of members, Blossom for files, LiveKit for calls",
            "$25.00 a month",
        ),
    ]

    Plan.objects.filter(pk="growth").update(price_problem="archived at Stripe")

    assert "Growth" not in html(client)


def test_first_page_may_be_indexed_but_not_framed(client):
    response = client.get("/")

    assert "noindex" not in response.content.decode()
    assert "X-Robots-Tag" not in response
    assert "frame-ancestors 'none'" in response["Content-Security-Policy"]
    assert "unsafe" not in response["Content-Security-Policy"]
    # A shared cache may keep it: it is the same for everybody.
    assert "public" in response["Cache-Control"]
    assert not response.cookies
    assert "Cookie" not in response.get("Vary", "")
