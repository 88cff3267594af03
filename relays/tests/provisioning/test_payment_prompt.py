"""Prompt in a relay's description, and its removal wherever the owner has put it."""

from datetime import timedelta

import pytest
from django.utils import timezone

from relays.models import Plan, Relay
from relays.services.provisioning.owner_words import public_description
from relays.services.provisioning.payment_prompt import (
    add_prompt,
    count_prompts,
    remove_prompts,
)
from relays.tests.factories import RelayFactory
from tenants.models import Tenant

pytestmark = pytest.mark.django_db

WORDS = "Painters of Paris.\n⚠ Be kind: https://paint.example/rules"


@pytest.fixture
def relay(settings):
    settings.RELAY_PAYMENT_PROMPT = True
    settings.APP_URL = "https://caravel.example"
    return make_past_due(RelayFactory(description=WORDS))


def make_past_due(relay, since=None):
    since = since or timezone.now()
    Tenant.objects.filter(pk=relay.tenant_id).update(past_due_at=since)
    return Relay.objects.get(pk=relay.pk)


def has_prompt(relay) -> bool:
    return bool(public_description(relay) != relay.description)


def test_prompt_follows_the_owners_words_and_leads_to_a_page(relay, client):
    text = public_description(relay)

    words, _, prompt = text.rpartition("\n\n")
    url = prompt.rsplit(" ", 1)[1]
    assert words == WORDS
    assert url == f"https://caravel.example/relay-payment/{relay.pk}"
    assert "unpaid" in prompt
    # Reached, though nothing is to be paid.
    path = url.removeprefix("https://caravel.example")
    assert b"no payment is needed" in client.get(path).content


def test_prompt_stands_alone_if_the_owner_has_written_nothing(relay):
    relay.description = ""

    text = public_description(relay)

    assert text.startswith("⚠ An invoice")
    assert remove_prompts(text, relay) == ""


@pytest.mark.parametrize(
    "changes",
    [
        {"relay": {"status": Relay.Status.INACTIVE}},
        {"tenant": {"past_due_at": None}},
        {"tenant": {"dunning_exempt": True}},
    ],
    ids=["inactive", "paid", "exempt"],
)
def test_no_prompt_at_a_relay_that_runs_without_a_payment_or_not_at_all(relay, changes):
    Relay.objects.filter(pk=relay.pk).update(**changes.get("relay", {"name": "n"}))
    rows = Tenant.objects.filter(pk=relay.tenant_id)
    rows.update(**changes.get("tenant", {"display_name": "n"}))

    assert not has_prompt(Relay.objects.get(pk=relay.pk))


def test_no_prompt_on_a_free_plan(relay):
    relay.plan = Plan.objects.get(pk="free")

    assert not has_prompt(relay)


def test_no_prompt_unless_the_operator_has_switched_it_on(relay, settings):
    settings.RELAY_PAYMENT_PROMPT = False

    assert not has_prompt(relay)


def test_owner_who_has_removed_the_prompt_sees_the_next_invoices_only(relay):
    now = timezone.now()
    relay.prompt_removed_at = now + timedelta(hours=1)
    assert not has_prompt(relay)

    relay.tenant.past_due_at = now + timedelta(days=30)

    assert has_prompt(relay)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda text: text, WORDS),
        (lambda text: f"{text}\n\nSince 2020", f"{WORDS}\n\nSince 2020"),
        (lambda text: f"{text} Since 2020", f"{WORDS}\n\nSince 2020"),
        (lambda text: " ".join(text.split()), " ".join(WORDS.split())),
        (lambda text: f"{text}\n\n{text}", f"{WORDS}\n\n{WORDS}"),
        (lambda text: text.replace("invoice", "bill"), None),
    ],
    ids=["as sent", "text after it", "same line", "one line", "twice", "reworded"],
)
def test_prompt_is_removed_wherever_its_owner_has_moved_it(relay, edit, words):
    text = edit(public_description(relay))

    removed = remove_prompts(text, relay)

    assert count_prompts(removed, relay) == 0
    if words is not None:
        assert removed == words
    assert removed.startswith(WORDS[:18])


def test_prompt_with_an_earlier_app_url_is_removed(relay, settings):
    text = public_description(relay)

    settings.APP_URL = "http://new.example:8000"

    assert remove_prompts(text, relay) == WORDS


def test_prompt_of_another_relay_is_the_owners_words(relay):
    text = add_prompt(WORDS, RelayFactory())

    assert remove_prompts(text, relay) == text


def test_prompt_is_found_in_a_text_as_long_as_a_document_allows(relay):
    text = f"{' ' * 30_000}{'https://a/' * 3_000}"

    assert remove_prompts(add_prompt(text, relay), relay) == text.strip()
