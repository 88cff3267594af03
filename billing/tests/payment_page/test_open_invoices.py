"""Several open invoices of one tenant: each page mentions the others."""

import re
from datetime import timedelta
from html import unescape

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing.models import InvoiceCollection
from billing.services.invoices.payment_link import LIFETIME
from billing.tests.support.payment_page import path_of, text
from lightning.models import LightningInvoice
from lightning.services.invoice_status import check_invoice
from relays.models import Relay
from tenants.models import Tenant
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db

ALL = "See and pay all"


@pytest.fixture
def invoice(open_invoice: InvoiceCollection) -> InvoiceCollection:
    return open_invoice


@pytest.fixture
def second(invoice) -> InvoiceCollection:
    """Another invoice of the same tenant, of $7.00, due a day later."""
    return copy_of(invoice, "in_second", amount_remaining_cents=700)


def copy_of(invoice, pk, **columns) -> InvoiceCollection:
    row = InvoiceCollection.objects.get(pk=invoice.pk)
    row.pk, row.number = pk, f"ABC-{pk[3:]}"
    row.suspend_at = invoice.suspend_at + timedelta(days=1)
    for name, value in columns.items():
        setattr(row, name, value)
    row.save(force_insert=True)
    return row


def get_html(client, path) -> str:
    response = client.get(path)
    assert response.status_code == 200
    return unescape(text(response))


def make_overdue(*invoices):
    for row in invoices:
        row.suspend_at = timezone.now() - timedelta(hours=1)
        row.save()
    Relay.objects.update(status="delinquent")


def links_in(html) -> list[str]:
    return re.findall(r'href="(/pay/[^"/]+)"', html)


def test_page_of_the_only_open_invoice_mentions_no_other(client, invoice):
    html = get_html(client, path_of(invoice))

    assert ALL not in html
    assert "If it is paid by then, the relays stay on." in html


def test_relay_that_never_ran_depends_on_the_payment_too(client, invoice, settings):
    # A debt switches it off, although no invoice contains it.
    settings.BILLING_SERVED_RELAYS_ONLY = True

    assert "If it is paid by then, the relays stay on." in get_html(
        client, path_of(invoice)
    )


def test_page_mentions_the_other_open_invoices_and_leads_to_all(
    client, invoice, second
):
    html = get_html(client, path_of(invoice))

    assert "1 other invoice is open: $7.00." in html
    assert f'href="{path_of(invoice)}/all"' in html
    assert "If it and the other open invoices are paid in time" in html


def test_relays_do_not_depend_on_the_invoices_of_an_exempt_tenant(client, invoice):
    Tenant.objects.update(dunning_exempt=True)

    assert "the relays stay on" not in get_html(client, path_of(invoice))


def test_relays_stay_on_until_a_time_that_the_page_of_a_written_off_invoice_names(
    client, invoice
):
    InvoiceCollection.objects.update(stripe_status="uncollectible")

    html = get_html(client, path_of(invoice))

    assert "by then" not in html
    assert f"{invoice.suspend_at:%-d %B %Y, %H:%M} UTC</time>, the relays" in html


@pytest.mark.parametrize("status", ["open", "uncollectible"])
def test_relays_are_promised_only_once_all_overdue_invoices_are_paid(
    client, invoice, second, status
):
    make_overdue(invoice)
    InvoiceCollection.objects.filter(pk=invoice.pk).update(stripe_status=status)
    while_second_is_not_due = get_html(client, path_of(invoice))
    make_overdue(second)

    html = get_html(client, path_of(invoice))

    assert "the other overdue invoices" not in while_second_is_not_due
    assert "the other overdue invoices" in html


def test_list_has_all_open_invoices_with_links_and_total(client, invoice, second):
    html = get_html(client, path_of(invoice) + "/all")

    assert "$5.00" in html and "$7.00" in html and "$12.00" in html
    first_link, second_link = links_in(html)
    assert invoice.number in get_html(client, first_link)
    assert second.number in get_html(client, second_link)


def test_total_has_one_sum_for_each_currency(client, invoice, second):
    copy_of(invoice, "in_euro", currency="eur")

    html = get_html(client, path_of(invoice) + "/all")

    assert "€5.00 and $12.00" in html


def test_invoice_whose_payment_is_being_booked_is_not_listed(
    client, invoice, second, alice
):
    client.post(path_of(invoice))
    alice.pay(LightningInvoice.objects.get().bolt11)
    check_invoice(invoice_id=LightningInvoice.objects.get().pk)

    html = get_html(client, path_of(second) + "/all")

    assert invoice.number not in html
    assert "1 other invoice is open" not in get_html(client, path_of(second))


def close_as_paid(invoice):
    InvoiceCollection.objects.filter(pk=invoice.pk).update(
        stripe_status="paid",
        amount_remaining_cents=0,
        amount_paid_cents=500,
        state="closed",
        closed_at=timezone.now(),
    )


def test_receipts_link_that_is_too_old_to_pay_with_leads_to_no_open_invoice(
    client, invoice, second
):
    with time_machine.travel(timezone.now() - LIFETIME - timedelta(days=1)):
        path = path_of(invoice)
    close_as_paid(invoice)

    html, listing = get_html(client, path), client.get(f"{path}/all")

    assert ALL not in html
    assert "other invoice" not in html and "$7.00" not in html
    assert "see and pay all that are open" not in html
    assert (listing.status_code, listing["Location"]) == (302, path)


def test_receipt_leads_to_the_open_invoices_for_a_day(client, invoice, second):
    close_as_paid(invoice)
    path = path_of(invoice)
    on_the_same_day = get_html(client, path)

    with time_machine.travel(timezone.now() + timedelta(days=1, minutes=1)):
        later = get_html(client, path)
        listing = client.get(f"{path}/all")

    assert ALL in on_the_same_day
    assert ALL not in later
    assert (listing.status_code, listing["Location"]) == (302, path)


def test_pages_say_that_they_lead_back_to_the_list_only_if_they_do(
    client, invoice, second
):
    of_two = get_html(client, path_of(invoice) + "/all")
    close_as_paid(invoice)

    of_one = get_html(client, path_of(invoice) + "/all")

    assert "which leads back here" in of_two
    assert "which leads back here" not in of_one
    assert "/all" not in get_html(client, links_in(of_one)[0])


def test_list_says_which_invoice_is_being_paid(client, invoice, second):
    InvoiceCollection.objects.filter(pk=second.pk).update(
        intent_status="processing", intent_since=timezone.now()
    )

    html = get_html(client, path_of(invoice) + "/all")

    assert html.count("A payment is in progress") == 1
    assert html.count("Due by") == 1


def test_list_without_open_invoices_leads_to_the_receipt(client, invoice):
    InvoiceCollection.objects.update(stripe_status="void", amount_remaining_cents=0)

    response = client.get(path_of(invoice) + "/all")

    assert (response.status_code, response["Location"]) == (302, path_of(invoice))


def test_invoices_of_other_tenants_are_not_listed(client, invoice, second):
    InvoiceCollection.objects.filter(pk=second.pk).update(tenant=TenantFactory())

    assert second.number not in get_html(client, path_of(invoice) + "/all")
    assert ALL not in get_html(client, path_of(invoice))


def test_links_in_the_list_expire_with_the_link_that_led_to_it(client, invoice, second):
    path = path_of(invoice)
    with time_machine.travel(timezone.now() + LIFETIME - timedelta(minutes=1)):
        links = links_in(get_html(client, f"{path}/all"))
        assert [client.get(link).status_code for link in links] == [200, 200]

    with time_machine.travel(timezone.now() + LIFETIME + timedelta(minutes=1)):
        assert [client.get(link).status_code for link in links] == [410, 410]


@pytest.mark.parametrize("suffix", ["x", ""])
def test_list_needs_a_valid_link_and_is_private(client, invoice, suffix):
    response = client.get(f"{path_of(invoice)}{suffix}/all")

    assert response.status_code == (404 if suffix else 200)
    assert response["Cache-Control"] == "no-store, private"
    assert "default-src 'none'" in response["Content-Security-Policy"]


def test_open_page_notices_another_invoice_and_its_payment(client, invoice, second):
    def version():
        return client.get(path_of(invoice) + "/status").json()["data"]["version"]

    before = version()
    InvoiceCollection.objects.filter(pk=second.pk).update(amount_remaining_cents=0)

    assert version() != before


def test_number_of_queries_does_not_depend_on_the_number_of_invoices(
    client, invoice, second, django_assert_num_queries
):
    path = path_of(invoice) + "/all"
    with CaptureQueriesContext(connection) as few:
        client.get(path)
    for number in range(20):
        copy_of(invoice, f"in_{number}")

    with django_assert_num_queries(len(few)):
        client.get(path)
