"""Receipts as files: PDF and JSON, read with other libraries."""

import io
import json
from datetime import timedelta

import nostr_sdk
import pypdf
import pytest
import requests
import time_machine
from django.utils import timezone

from billing.services.collection.collect import collect_invoice
from billing.tests.support.payment_page import path_of, text
from billing.views.payment_page import CLICK_RATE
from caravel.nostr import npub, pubkey_of
from tenants.models import Tenant

pytestmark = pytest.mark.django_db


@pytest.fixture
def invoice(open_invoice):
    return open_invoice


@pytest.fixture
def paid(invoice, sandbox):
    """An invoice that was paid with a card on Stripe's page."""
    url = f"{sandbox.url}/_sandbox/invoices/{invoice.pk}/pay"
    requests.post(url, json={"card": "pm_card_visa"}, timeout=60).raise_for_status()
    collect_invoice(invoice_id=invoice.pk)
    invoice.refresh_from_db()
    assert invoice.stripe_status == "paid"
    return invoice


def open_pdf(response) -> pypdf.PdfReader:
    assert response.status_code == 200
    assert response["Content-Type"] == "application/pdf"
    return pypdf.PdfReader(io.BytesIO(response.content))


def pdf_text(response) -> str:
    return "\n".join(page.extract_text() for page in open_pdf(response).pages)


# The page reads the receipt in a thread, which must see the rows.
@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_page_offers_the_receipt_as_files(client, paid):
    html = text(client.get(path_of(paid)))

    for extension in ("pdf", "json"):
        path = f"{path_of(paid)}/receipt.{extension}"
        # Without `download`: browsers would not show why there is no file.
        assert f'href="{path}">' in html
        response = client.get(path)
        assert response["Content-Disposition"] == (
            f'attachment; filename="receipt-{paid.number}.{extension}"'
        )
        assert response["Cache-Control"] == "no-store, private"


def test_pdf_says_who_paid_what_to_whom(client, paid, settings):
    settings.SELLER_NAME, settings.SELLER_ADDRESS = "Łódź & Söhne", "ul. Żółwia 1"
    settings.SELLER_TAX_ID, settings.SELLER_CONTACT = "VAT 1", "help@relays.example"
    Tenant.objects.update(display_name="Žluť Đ")

    content = pdf_text(client.get(f"{path_of(paid)}/receipt.pdf"))

    assert "Łódź & Söhne\nul. Żółwia 1\nVAT 1\nhelp@relays.example" in content
    assert f"Žluť Đ\n{npub(paid.tenant_id)}" in content
    assert paid.number in content
    assert "1 × Nostr relay, Basic" in content
    assert "$5.00" in content
    assert "recorded in Stripe" in content


def test_json_file_is_attached_to_the_pdf_and_signed(client, paid, settings):
    (attachment,) = open_pdf(
        client.get(f"{path_of(paid)}/receipt.pdf")
    ).attachments.values()
    file = client.get(f"{path_of(paid)}/receipt.json")

    assert file["Content-Type"] == "application/json"
    for data in (json.loads(file.content), json.loads(attachment[0])):
        event = nostr_sdk.Event.from_json(json.dumps(data.pop("event")))
        assert event.verify()
        assert event.author().to_hex() == pubkey_of(settings.ROBOT_SECRET)
        assert json.loads(event.content()) == data
        assert (data["invoice_id"], data["paid_cents"]) == (paid.pk, 500)


def test_name_that_the_font_cannot_show_is_left_out_of_the_pdf(client, paid):
    Tenant.objects.update(display_name="漢字")

    content = pdf_text(client.get(f"{path_of(paid)}/receipt.pdf"))

    assert f"Billed to {npub(paid.tenant_id)}" in " ".join(content.split())


def test_files_can_be_downloaded_years_later(client, paid):
    path = path_of(paid)

    with time_machine.travel(timezone.now() + timedelta(days=3 * 365)):
        assert client.get(f"{path}/receipt.pdf").status_code == 200
        assert client.get(f"{path}/receipt.json").status_code == 200


@pytest.mark.parametrize("extension", ["pdf", "json"])
def test_unpaid_invoice_has_no_receipt_to_download(client, invoice, extension):
    response = client.get(f"{path_of(invoice)}/receipt.{extension}")

    assert response.status_code == 409
    assert "There is no receipt" in text(response)
    assert "This invoice is not paid." in text(response)


@pytest.mark.parametrize("extension", ["pdf", "json"])
def test_no_file_without_a_valid_link(client, paid, extension):
    assert client.get(f"/pay/{paid.pk}/receipt.{extension}").status_code == 404


def test_downloads_are_rate_limited(client, paid):
    limit = int(CLICK_RATE.partition("/")[0])
    path = f"{path_of(paid)}/receipt.json"

    statuses = [client.get(path).status_code for _ in range(limit + 1)]

    assert statuses == [200] * limit + [429]
