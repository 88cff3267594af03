"""The saved card on the payment page, and what delays its charge."""

from datetime import timedelta
from html import unescape

import pytest
from django.utils import timezone

from billing.clients.stripe.client import Card
from billing.models import CardAttempt, InvoiceCollection
from billing.services.collection.attempts import start_attempt_for_tenant
from billing.services.collection.collect import collect_invoice
from billing.services.payment_page import saved_card
from billing.tests.support.collection import attach
from billing.tests.support.payment_page import path_of, text
from billing.tests.support.reversals import record_warning
from caravel.core import cache
from lightning.models import LightningInvoice

# The cards are read in another thread, with a connection of its own.
pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

Action = InvoiceCollection.Action
DECLINED = "pm_card_chargeCustomerFail"


@pytest.fixture(autouse=True)
def _no_cached_cards(open_invoice):
    saved_card.forget_cards(open_invoice.stripe_customer_id)


def get_html(client, invoice, query="") -> str:
    response = client.get(path_of(invoice) + query)
    assert response.status_code == 200
    return unescape(text(response))


def refuse(invoice, sandbox, card=DECLINED):
    """Charge a new card of the tenant, which is declined."""
    attach(sandbox, invoice.tenant, card, outcome="")
    start_attempt_for_tenant(tenant_id=invoice.tenant_id, first=Action.CARD)
    collect_invoice(invoice_id=invoice.pk)
    assert CardAttempt.objects.get().state == "refused"


def test_saved_card_is_named_when_the_payer_comes_back(client, open_invoice, sandbox):
    get_html(client, open_invoice)  # caches that there is no card
    attach(sandbox, open_invoice.tenant, "pm_card_mastercard")
    cache_entry_ages(open_invoice, seconds=3)

    html = get_html(client, open_invoice, "?back")

    assert "Mastercard •••• 4444 is saved." in html
    assert "for this invoice within a few minutes" in html
    assert "Use another card" in html


def test_card_is_named_that_was_saved_in_a_moment(client, open_invoice, sandbox):
    get_html(client, open_invoice)
    assert client.post(path_of(open_invoice) + "/card").status_code == 303
    attach(sandbox, open_invoice.tenant)

    assert "Visa •••• 4242 is saved." in get_html(client, open_invoice, "?back")


def cache_entry_ages(invoice, *, seconds):
    key = f"{saved_card._KEY}:{invoice.stripe_customer_id}"
    entry = cache.get(key)
    cache.set(key, {**entry, "fetched_at": entry["fetched_at"] - seconds}, seconds=30)


def test_card_saved_while_a_bolt11_is_open_is_named_with_the_time_of_its_charge(
    client, open_invoice, sandbox
):
    client.post(path_of(open_invoice))
    attach(sandbox, open_invoice.tenant)

    html = get_html(client, open_invoice, "?back")

    until = LightningInvoice.objects.get().final_at
    assert "Visa •••• 4242 is saved." in html
    assert "only if you do not pay with Lightning: soon after <time" in html
    assert f"{until:%-d %B %Y, %H:%M} UTC" in html


def test_payer_is_warned_before_the_press_that_lightning_delays_the_card(
    client, open_invoice, sandbox
):
    before = get_html(client, open_invoice)
    cache_entry_ages(open_invoice, seconds=31)
    attach(sandbox, open_invoice.tenant)
    after = get_html(client, open_invoice)

    assert "no card is charged for 2 hours 45 minutes" in before
    assert "Visa •••• 4242 is not charged for 2 hours 45 minutes" in after
    assert 'aria-describedby="lightning-delay"' in before


def test_second_card_is_not_announced_as_declined(client, open_invoice, sandbox):
    refuse(open_invoice, sandbox)
    now = timezone.now()
    CardAttempt.objects.update(created_at=now - timedelta(minutes=1))
    attach(sandbox, open_invoice.tenant)

    html = get_html(client, open_invoice, "?back")

    assert "Visa •••• 4242 is saved. We charge it" in html
    assert "Another card was declined on" in html
    assert "Try another card" not in html


def test_declined_card_is_named_with_its_next_attempt(client, open_invoice, sandbox):
    refuse(open_invoice, sandbox)

    html = get_html(client, open_invoice)

    retry_at = open_invoice.finalized_at + timedelta(days=1)
    assert "Visa •••• 0341 was declined on" in html
    assert "We try it again on" in html
    assert f"{retry_at:%-d %B %Y, %H:%M} UTC" in html
    assert "is saved" not in html


def test_card_refused_before_a_lost_one_is_not_announced_as_charged_soon(
    client, open_invoice, sandbox
):
    refuse(open_invoice, sandbox)
    refused = CardAttempt.objects.get()
    refused_at = timezone.now() - timedelta(minutes=5)
    CardAttempt.objects.update(created_at=refused_at)
    refuse_again = {"state": "refused", "code": "lost_card", "resolved_at": refused_at}
    refused.pk, refused.payment_method = None, "pm_lost"
    refused.idempotency_key = "another"
    for name, value in refuse_again.items():
        setattr(refused, name, value)
    refused.save()

    html = get_html(client, open_invoice)

    assert "is saved" not in html
    assert "Visa •••• 0341 was declined on" in html
    assert f"{refused_at:%-d %B %Y, %H:%M} UTC" in html


def test_no_time_of_the_next_attempt_is_given_that_lightning_delays(
    client, open_invoice, sandbox
):
    refuse(open_invoice, sandbox)
    client.post(path_of(open_invoice))
    LightningInvoice.objects.update(expires_at=timezone.now() - timedelta(minutes=2))

    html = get_html(client, open_invoice)

    assert "Visa •••• 0341 was declined on" in html
    assert "We try it again" not in html


def test_declined_card_is_not_mentioned_if_no_card_can_be_used(
    client, open_invoice, sandbox
):
    refuse(open_invoice, sandbox)
    InvoiceCollection.objects.filter(pk=open_invoice.pk).update(
        stripe_status="paid", amount_remaining_cents=0, dispute_debt_cents=300
    )

    html = get_html(client, open_invoice)

    assert "Please pay it with Lightning" in html
    assert "Try another card" not in html


def test_card_that_is_saved_but_never_charged_is_named_as_such(
    client, open_invoice, sandbox
):
    card = attach(sandbox, open_invoice.tenant)
    record_warning(sandbox, open_invoice, card)

    html = get_html(client, open_invoice, "?back")

    assert "Visa •••• 4242 is saved, but we do not charge it" in html
    assert "within a few minutes" not in html
    assert "no card is charged for 2 hours" in html


def test_page_without_an_answer_about_cards_is_shown_without_them(
    client, open_invoice, sandbox
):
    sandbox.fault("status", method="GET", path="/v1/customers", times=None)

    html = get_html(client, open_invoice, "?back")

    assert "If you have just saved a card, we charge it" in html
    assert "Pay by card" in html


def test_reloading_the_page_reads_the_cards_once(client, open_invoice, sandbox):
    before = len(sandbox.requests("GET", "customers"))

    for _ in range(5):
        get_html(client, open_invoice)

    assert len(sandbox.requests("GET", "customers")) == before + 1


def test_reloading_the_page_of_a_new_card_reads_the_cards_ten_times_a_minute(
    client, open_invoice, sandbox
):
    before = len(sandbox.requests("GET", "customers"))

    for _ in range(12):
        get_html(client, open_invoice, "?back")
        cache_entry_ages(open_invoice, seconds=3)

    assert len(sandbox.requests("GET", "customers")) == before + 10


def test_no_card_is_named_that_is_not_charged(client, open_invoice, sandbox):
    attach(sandbox, open_invoice.tenant)
    open_invoice.tenant.autopay_paused = True
    open_invoice.tenant.save()

    assert "4242" not in get_html(client, open_invoice)


@pytest.mark.parametrize(
    ("card", "name"),
    [
        (Card("pm_1", 0, brand="amex", last4="0005"), "American Express •••• 0005"),
        (Card("pm_1", 0, brand="diners", last4="0004"), "Diners •••• 0004"),
        (Card("pm_1", 0, type="link"), "Link"),
        (Card("pm_1", 0, "sepa_debit", last4="3000"), "Bank account •••• 3000"),
        (Card("pm_1", 0), "Your card"),
    ],
)
def test_names_of_cards(card, name):
    assert saved_card._name(card) == name
