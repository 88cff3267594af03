"""Words that the owner has changed at the relay, and words that were changed here."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from django.utils import timezone

from relays.clients.nip11 import RelayDocument
from relays.models import Relay, RelaySync
from relays.services.provisioning.adoption import adopt
from relays.services.provisioning.owner_words import public_description
from relays.tests.factories import RelayFactory
from tenants.models import Tenant

pytestmark = pytest.mark.django_db

OURS = {"name": "Paint", "icon": "https://x.example/i.png", "description": "Painters."}
#: More than the 1,000 characters of a row.
LONG = "Painters, " * 150


@pytest.fixture
def relay():
    """A relay that zooid serves as its row says, as the last look has shown."""
    relay = RelayFactory(**OURS)
    RelaySync.objects.update_or_create(
        relay=relay, defaults={"acknowledged": json.dumps({"info": OURS, "host": "h"})}
    )
    look(relay)
    return relay


def shown(relay) -> RelayDocument:
    """Return the document of a zooid that has done what it has acknowledged."""
    info = acknowledged(relay)["info"]
    words = {field: info[field] for field in OURS}
    return RelayDocument(**words, pubkey=relay.tenant_id, self_pubkey="")


def look(relay, *, read_at=None, **edits) -> bool:
    """Read a document that has been edited at the relay."""
    document = replace(shown(relay), **edits)
    return adopt(
        relay_id=relay.pk, document=document, read_at=read_at or timezone.now()
    )


def acknowledged(relay):
    return json.loads(RelaySync.objects.get(pk=relay.pk).acknowledged.reveal())


def words(relay):
    return Relay.objects.filter(pk=relay.pk).values(*OURS).get()


def to_send(relay) -> set[str]:
    """Return the fields that the next sync sends."""
    row = Relay.objects.select_related("tenant", "plan").get(pk=relay.pk)
    wanted = {**words(relay), "description": public_description(row)}
    info = acknowledged(relay)["info"]
    return {field for field in OURS if wanted[field] != info[field]}


def change_here(relay, **columns) -> None:
    Relay.objects.filter(pk=relay.pk).update(**columns)


def acknowledge(relay, **fields) -> None:
    """Record that zooid has acknowledged a write of these fields."""
    config = acknowledged(relay)
    config["info"] |= fields
    RelaySync.objects.filter(pk=relay.pk).update(
        acknowledged=json.dumps(config), acknowledged_at=timezone.now()
    )


@pytest.mark.parametrize("field", OURS)
def test_edit_at_the_relay_is_stored_and_not_sent_back(relay, field):
    edit = {field: "https://x.example/new"}

    assert look(relay, **edit)

    assert words(relay) == {**OURS, **edit}
    assert acknowledged(relay) == {"info": {**OURS, **edit}, "host": "h"}
    assert to_send(relay) == set()


def test_emptied_field_is_stored(relay):
    look(relay, name="", icon="", description="")

    assert words(relay) == {"name": "", "icon": "", "description": ""}
    assert to_send(relay) == set()


def test_same_document_changes_nothing_twice(relay, django_assert_num_queries):
    look(relay, name="Paris")
    before = RelaySync.objects.values().get(pk=relay.pk)

    with django_assert_num_queries(2):
        # One of them is the test's.
        assert not look(relay, name="Paris")

    assert RelaySync.objects.values().get(pk=relay.pk) == before


def test_edit_of_one_field_leaves_the_change_of_another_to_be_sent(relay):
    change_here(relay, description="Painters of Paris.")

    look(relay, name="Paris")

    assert words(relay) == {
        **OURS,
        "name": "Paris",
        "description": "Painters of Paris.",
    }
    assert to_send(relay) == {"description"}


def test_field_that_was_changed_at_both_ends_is_sent(relay):
    change_here(relay, name="Ours")

    look(relay, name="Theirs")

    assert words(relay)["name"] == "Ours"
    assert to_send(relay) == {"name"}


def test_same_change_at_both_ends_is_not_sent(relay):
    change_here(relay, name="Paris", description="Both.")

    look(relay, name="Paris", description="Both.")

    assert to_send(relay) == set()


@pytest.mark.parametrize(
    "edit",
    [
        {"name": "n" * 101},
        {"icon": "no URL"},
        {"icon": "javascript:alert(1)"},
        {"description": LONG},
    ],
    ids=["long name", "no URL", "script", "long description"],
)
def test_edit_that_the_row_cannot_hold_is_left_alone_at_both_ends(relay, edit):
    look(relay, **edit)

    assert words(relay) == OURS
    assert to_send(relay) == set()


@pytest.mark.parametrize("text", ["Shorter.", "Painters."], ids=["new", "as before"])
def test_shorter_description_replaces_a_long_one(relay, text):
    look(relay, description=LONG)

    look(relay, description=text)

    assert words(relay)["description"] == text
    assert to_send(relay) == set()


def test_change_here_replaces_a_long_description(relay):
    look(relay, description=LONG)

    change_here(relay, description="Ours.")

    assert to_send(relay) == {"description"}
    assert public_description(Relay.objects.get(pk=relay.pk)) == "Ours."


def test_old_words_are_no_edit_while_zooid_has_not_reloaded(relay):
    change_here(relay, description="New.")
    acknowledge(relay, description="New.")

    look(relay, description=OURS["description"])
    assert words(relay)["description"] == "New."
    assert to_send(relay) == set()

    # Reloaded: from now on the old words are an edit.
    look(relay)
    look(relay, description=OURS["description"])
    assert words(relay)["description"] == OURS["description"]


def test_edit_is_found_before_the_written_words_were_seen(relay):
    change_here(relay, description="New.")
    acknowledge(relay, description="New.")

    look(relay, description="Edited.")

    assert words(relay)["description"] == "Edited."


def test_document_from_before_the_last_write_proves_nothing(relay):
    read_at = timezone.now()
    change_here(relay, name="New")
    acknowledge(relay, name="New")

    assert not look(relay, name="Old", read_at=read_at)

    assert words(relay)["name"] == "New"


def test_document_from_before_the_last_look_proves_nothing(relay):
    read_at = timezone.now() - timedelta(seconds=1)
    look(relay, name="Newer")

    assert not look(relay, name="Older", read_at=read_at)

    assert words(relay)["name"] == "Newer"


def test_nothing_is_adopted_while_a_write_has_no_answer(relay):
    # Sent, and changed back here: zooid may show what was sent.
    RelaySync.objects.filter(pk=relay.pk).update(sent='{"method": "PATCH"}')
    assert not look(relay, name="Sent")

    RelaySync.objects.filter(pk=relay.pk).update(sent="")
    assert look(relay, name="Sent")


@pytest.mark.parametrize("config", ["", '{"info": {"icon": "", "description": ""}}'])
def test_words_without_an_acknowledged_state_are_sent(relay, config):
    RelaySync.objects.filter(pk=relay.pk).update(acknowledged=config)
    edited = RelayDocument(**(OURS | {"name": "Edited"}), pubkey="", self_pubkey="")

    adopt(relay_id=relay.pk, document=edited, read_at=timezone.now())

    assert words(relay)["name"] == OURS["name"]
    assert RelaySync.objects.get(pk=relay.pk).acknowledged.reveal() == config


def test_deleted_relay_keeps_its_words(relay):
    Relay.objects.filter(pk=relay.pk).update(
        deleted_at=timezone.now(), status=Relay.Status.INACTIVE
    )

    assert not look(relay, name="Edited")

    assert words(relay) == OURS


def test_control_characters_that_a_document_leaves_out_are_no_edit(relay):
    change_here(relay, description="One\x07\nTwo")
    acknowledge(relay, description="One\x07\nTwo")

    assert not look(relay, description="One\nTwo")

    assert words(relay)["description"] == "One\x07\nTwo"


class TestPrompt:
    """Edits while the payment prompt is shown."""

    @pytest.fixture(autouse=True)
    def prompt(self, relay, settings) -> str:
        settings.RELAY_PAYMENT_PROMPT = True
        past_due(relay, timezone.now() - timedelta(minutes=1))
        assert to_send(relay) == {"description"}
        text = send(relay)
        look(relay)
        return text.removeprefix(OURS["description"])

    def test_edit_before_the_prompt_is_stored_without_it(self, relay, prompt):
        look(relay, description=f"Edited.{prompt}")

        assert words(relay)["description"] == "Edited."
        assert to_send(relay) == set()

    def test_edit_after_the_prompt_lets_it_stay_where_it_is(self, relay, prompt):
        look(relay, description=f"Painters.{prompt}\n\nSince 2020")

        assert words(relay)["description"] == "Painters.\n\nSince 2020"
        assert to_send(relay) == set()

    def test_removed_prompt_does_not_come_back(self, relay):
        look(relay, description="Painters.")
        assert to_send(relay) == set()

        past_due(relay, None)
        assert to_send(relay) == set()

        past_due(relay, timezone.now() + timedelta(days=30))
        assert send(relay).startswith("Painters.\n\n⚠")

    def test_prompt_is_removed_together_with_an_edit(self, relay):
        look(relay, description="Edited.")

        assert words(relay)["description"] == "Edited."
        assert to_send(relay) == set()

    def test_doubled_prompt_is_shown_once_again(self, relay, prompt):
        look(relay, description=f"Edited.{prompt}{prompt}")

        assert words(relay)["description"] == "Edited."
        assert send(relay) == f"Edited.{prompt}"

    def test_paid_debt_takes_the_prompt_back_and_leaves_the_edit(self, relay, prompt):
        look(relay, description=f"Edited.{prompt}")

        past_due(relay, None)

        assert send(relay) == "Edited."

    def test_prompt_that_returns_with_an_edit_after_the_payment_is_removed(
        self, relay, prompt
    ):
        past_due(relay, None)
        send(relay)
        look(relay)

        # From a form that was opened before.
        look(relay, description=f"Edited.{prompt}")

        assert words(relay)["description"] == "Edited."
        assert send(relay) == "Edited."

    def test_long_description_gets_and_loses_the_prompt(self, relay, prompt):
        look(relay, description=f"{LONG}{prompt}")
        assert words(relay)["description"] == OURS["description"]
        assert to_send(relay) == set()

        past_due(relay, None)
        assert send(relay).strip() == LONG.strip()

        past_due(relay, timezone.now())
        assert send(relay).strip() == f"{LONG.strip()}{prompt}"

    def test_edit_at_the_moment_that_the_prompt_is_due_is_kept(self, relay, prompt):
        past_due(relay, None)
        send(relay)
        look(relay)
        past_due(relay, timezone.now())

        look(relay, description="Edited.")

        assert send(relay) == f"Edited.{prompt}"


def past_due(relay, since) -> None:
    Tenant.objects.filter(pk=relay.tenant_id).update(past_due_at=since)


def send(relay) -> str:
    """Send the description as a sync does, and return it."""
    assert to_send(relay) == {"description"}
    row = Relay.objects.select_related("tenant", "plan").get(pk=relay.pk)
    text = public_description(row)
    acknowledge(relay, description=text)
    return text
