"""The payment page and the API of an invoice whose payment was taken back."""

import pytest

from billing.services.invoice_views.invoices import get_invoice
from billing.services.invoices.payment_link import oldest_unpaid_link
from billing.services.payment_page.page import CardOption, get_page
from billing.services.reversals.debts import write_off_dispute_debt
from billing.tests.support.payment_page import forget_paths, path_of, text
from billing.tests.support.reversals import (
    close_dispute,
    deliver_all,
    dispute,
    pay_on_page,
    refund,
)
from lightning.models import LightningInvoice

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _own_paths():
    forget_paths()


@pytest.fixture
def disputed(sandbox, payer, paid, charge):
    """The invoice of $25, of which $10 are disputed."""
    dispute(sandbox, charge, amount=1000)
    deliver_all(sandbox)
    paid.refresh_from_db()
    return paid


def test_page_asks_for_the_disputed_amount_by_lightning_only(client, disputed):
    html = text(client.get(path_of(disputed)))

    assert '<span class="amount">$10.00</span>' in html
    assert "Your bank took back the payment" in html
    assert 'id="lightning"' in html and 'id="card"' not in html
    assert get_page(disputed.pk).card_option == CardOption.NONE


def test_bolt11_is_over_the_debt(client, disputed):
    client.post(path_of(disputed))

    bolt11 = LightningInvoice.objects.get()
    assert (bolt11.amount_cents, bolt11.shown_at is None) == (1000, False)


def test_page_is_paid_again_when_the_debt_is_repaid(client, disputed, alice):
    pay_on_page(disputed, alice)

    html = text(client.get(path_of(disputed)))

    assert "Paid. Thank you!" in html
    assert get_page(disputed.pk).is_final


def test_open_page_notices_the_dispute_and_its_end(sandbox, client, paid, charge):
    before = client.get(path_of(paid) + "/status").json()["data"]
    id = dispute(sandbox, charge)
    deliver_all(sandbox)
    during = client.get(path_of(paid) + "/status").json()["data"]
    close_dispute(sandbox, id, "won")
    deliver_all(sandbox)

    after = client.get(path_of(paid) + "/status").json()["data"]

    assert (before["state"], during["state"], after["state"]) == (
        "paid",
        "open",
        "paid",
    )
    assert before["version"] != during["version"]


def test_page_of_money_taken_back_and_written_off_is_no_receipt(
    sandbox, client, paid, charge
):
    dispute(sandbox, charge)
    deliver_all(sandbox)
    write_off_dispute_debt(invoice_id=paid.pk)

    html = text(client.get(path_of(paid)))

    assert "This payment was disputed" in html
    assert "Thank you" not in html and "receipt" not in html


# The receipt is built in another thread, with a connection of its own.
@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_page_shows_what_was_refunded(sandbox, client, paid, charge):
    refund(sandbox, charge, 700)
    deliver_all(sandbox)

    html = text(client.get(path_of(paid)))

    assert "<dt>Refunded</dt><dd>$7.00</dd>" in html


def test_api_shows_debt_and_refunds(sandbox, paid, charge):
    refund(sandbox, charge, 700)
    dispute(sandbox, charge, amount=1000)
    deliver_all(sandbox)

    details = get_invoice(paid.pk)

    assert details.status == "paid"
    assert details.collection is not None
    amounts = details.collection
    assert (amounts.owed_cents, amounts.dispute_debt_cents) == (1000, 1000)
    assert amounts.refunded_cents == 700
    assert amounts.payment_url
    assert oldest_unpaid_link(paid.tenant_id)
