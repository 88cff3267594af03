"""Edits of the owner at a real relay (NIP-86), and the payment prompt beside them."""

from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from relays.models import Relay
from relays.services.lifecycle import (
    mark_relay_delinquent,
    reactivate_relay,
    update_relay,
)
from relays.services.provisioning.queue import mark_stale
from relays.services.provisioning.sync import SyncOutcome
from relays.tests.support.owner import edit, served_relay, set_past_due

pytestmark = pytest.mark.django_db

IN_SYNC = SyncOutcome.IN_SYNC


@pytest.fixture
def relay(provisioning, settings):
    settings.RELAY_PAYMENT_PROMPT = True
    return served_relay(provisioning)


def prompt_of(relay) -> str:
    return f"/relay-payment/{relay.pk}"


def description(provisioning, relay) -> str:
    document = provisioning.document(relay)
    assert document is not None
    return str(document.description)


def own_reloads(provisioning, relay) -> int:
    """Return how often we have made zooid rebuild the relay."""
    return len([method for method in provisioning.methods if method == "PATCH"])


def test_edits_at_the_relay_are_adopted_by_a_probe_and_never_sent(provisioning, relay):
    edit(provisioning, relay, "name", "Paris")
    edit(provisioning, relay, "description", "Since 2020.")
    edit(provisioning, relay, "icon", "https://x.example/i.png")

    provisioning.probe(relay, after=900)

    row = Relay.objects.get(pk=relay.pk)
    assert (row.name, row.description) == ("Paris", "Since 2020.")
    assert row.icon == "https://x.example/i.png"
    provisioning.sync(relay, after=901)
    assert provisioning.methods == []


def test_change_of_other_words_here_leaves_the_owners_alone(provisioning, relay):
    edit(provisioning, relay, "description", "Since 2020.")
    update_relay(relay_id=relay.pk, name="Ours")

    assert provisioning.sync(relay) == IN_SYNC

    row = Relay.objects.get(pk=relay.pk)
    assert (row.name, row.description) == ("Ours", "Since 2020.")
    document = provisioning.document(relay)
    assert (document.name, document.description) == ("Ours", "Since 2020.")


def test_prompt_comes_and_goes_with_the_debt(provisioning, relay):
    set_past_due(relay, timezone.now())
    assert provisioning.sync(relay) == IN_SYNC
    assert description(provisioning, relay).startswith("Painters.\n\n⚠")
    assert prompt_of(relay) in description(provisioning, relay)

    set_past_due(relay, None)
    assert provisioning.sync(relay) == IN_SYNC
    assert description(provisioning, relay) == "Painters."
    assert own_reloads(provisioning, relay) == 2
    assert Relay.objects.get(pk=relay.pk).description == "Painters."


@pytest.mark.parametrize("is_due", [True, False], ids=["added", "taken back"])
def test_unread_edit_stays_when_the_prompt_is_added_or_taken_back(
    provisioning, relay, is_due
):
    set_past_due(relay, None if is_due else timezone.now())
    provisioning.sync(relay)
    # No probe has seen it.
    edit(provisioning, relay, "description", "Edited.")

    set_past_due(relay, timezone.now() if is_due else None)
    assert provisioning.sync(relay) == IN_SYNC

    assert description(provisioning, relay).partition("\n\n")[0] == "Edited."
    assert (prompt_of(relay) in description(provisioning, relay)) == is_due
    assert Relay.objects.get(pk=relay.pk).description == "Edited."


def test_unread_edit_of_a_long_text_stays(provisioning, relay):
    text = "Painters, " * 300 + "all."
    edit(provisioning, relay, "description", text)

    set_past_due(relay, timezone.now())
    assert provisioning.sync(relay) == IN_SYNC
    assert description(provisioning, relay).startswith(f"{text}\n\n⚠")

    set_past_due(relay, None)
    assert provisioning.sync(relay) == IN_SYNC
    assert description(provisioning, relay) == text
    assert Relay.objects.get(pk=relay.pk).description == "Painters."


def test_edit_before_a_suspension_is_there_after_the_payment(provisioning, relay):
    set_past_due(relay, timezone.now())
    provisioning.sync(relay)
    text = description(provisioning, relay).replace("Painters.", "Edited.")
    edit(provisioning, relay, "description", text)

    mark_relay_delinquent(relay_id=relay.pk)
    assert provisioning.sync(relay) == IN_SYNC
    assert provisioning.document(relay) is None

    set_past_due(relay, None)
    reactivate_relay(relay_id=relay.pk)
    assert provisioning.sync(relay) == IN_SYNC
    assert description(provisioning, relay) == "Edited."
    # The prompt, off, and on without it.
    assert own_reloads(provisioning, relay) == 3


def test_prompt_that_the_owner_removes_does_not_come_back(provisioning, relay):
    set_past_due(relay, timezone.now())
    provisioning.sync(relay)

    edit(provisioning, relay, "description", "Painters.")
    provisioning.probe(relay, after=900)
    mark_stale(relay_id=relay.pk)
    provisioning.sync(relay, after=901)

    assert description(provisioning, relay) == "Painters."
    assert own_reloads(provisioning, relay) == 1


def test_words_before_the_reload_are_not_taken_for_an_edit(provisioning, relay):
    update_relay(relay_id=relay.pk, description="New.")
    provisioning.zooid.reload_delay = 60.0
    outcome = provisioning.sync(relay)
    assert Relay.objects.get(pk=relay.pk).description == "New."

    provisioning.zooid.reload_delay = 0.0
    provisioning.zooid.reload()
    if outcome != IN_SYNC:
        assert provisioning.sync(relay, after=10) == IN_SYNC
    assert description(provisioning, relay) == "New."
    assert Relay.objects.get(pk=relay.pk).description == "New."


def test_setting_that_is_switched_off_takes_the_prompt_back(
    provisioning, relay, settings
):
    set_past_due(relay, timezone.now())
    provisioning.sync(relay)

    settings.RELAY_PAYMENT_PROMPT = False
    provisioning.probe(relay, after=900)
    with time_machine.travel(timezone.now() + timedelta(seconds=901)):
        assert provisioning.sync(relay) == IN_SYNC

    assert description(provisioning, relay) == "Painters."


def test_edit_is_adopted_after_a_write_whose_answer_was_lost(provisioning, relay):
    update_relay(relay_id=relay.pk, name="Ours")
    provisioning.zooid.fault("reset", when="before", times=1)
    provisioning.sync(relay)
    assert provisioning.row(relay).sent
    edit(provisioning, relay, "name", "The owner's")

    assert provisioning.sync(relay, after=3600) == IN_SYNC
    provisioning.probe(relay, after=7200)

    assert not provisioning.row(relay).sent
    assert Relay.objects.get(pk=relay.pk).name == "The owner's"
    assert provisioning.document(relay).name == "The owner's"
