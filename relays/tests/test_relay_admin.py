"""The admin's page of a relay: its roles, and changes to a smaller plan."""

from typing import Any

import pytest

from billing.tests.support.admin import admin_url, message_texts
from caravel.nostr import npub, pubkey_of
from relays.models import Relay
from relays.tests.factories import RelayFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("priced_plans")]

ANN, BEN = (pubkey_of(digit * 64) for digit in "12")


def save(client: Any, relay: Relay, **fields: str) -> Any:
    """Submit the page of a relay with some fields changed."""
    url = admin_url(Relay, "change", relay.pk)
    form = client.get(url).context["adminform"].form
    values = {name: form[name].value() for name in form.fields}
    data = {name: value for name, value in values.items() if value is not False}
    return client.post(url, {**data, **fields}, follow=True)


def test_keys_are_entered_as_npub_or_hex_and_shown_in_hex(admin_client):
    relay = RelayFactory()

    save(admin_client, relay, admins=f"{npub(ANN)},\n {BEN}\n")

    relay.refresh_from_db()
    assert relay.admins == [ANN, BEN]
    page = admin_client.get(admin_url(Relay, "change", relay.pk))
    assert f"{ANN}\n{BEN}</textarea>" in page.content.decode()


def test_page_saved_as_it_is_changes_no_role(admin_client):
    relay = RelayFactory(admins=[ANN], moderators=[BEN], synced=True)

    save(admin_client, relay)

    relay.refresh_from_db()
    assert (relay.admins, relay.moderators) == ([ANN], [BEN])
    assert relay.synced


def test_role_is_taken_away(admin_client):
    relay = RelayFactory(admins=[ANN])

    save(admin_client, relay, admins="")

    relay.refresh_from_db()
    assert relay.admins == []


def test_invalid_key_is_an_error_of_its_field(admin_client):
    relay = RelayFactory(admins=[ANN])

    response = save(admin_client, relay, admins="npub1x", name="New")

    errors = response.context["adminform"].form.errors
    assert errors == {"admins": ["This npub is misspelt."]}
    relay.refresh_from_db()
    assert (relay.admins, relay.name) == ([ANN], "")


def test_owner_as_moderator_is_refused_with_a_message(admin_client):
    relay = RelayFactory()

    response = save(admin_client, relay, moderators=relay.tenant_id)

    assert "role-invalid" in message_texts(response)[0]
    relay.refresh_from_db()
    assert relay.moderators == []
