"""The etag of the payment page."""

from dataclasses import replace
from datetime import timedelta

import pytest

from billing.models import InvoiceCollection
from billing.services.payment_page.page import get_page
from billing.services.payment_page.presentation import etag
from relays.models import Relay
from tenants.models import Tenant

pytestmark = pytest.mark.django_db


def test_etag_is_the_same_while_only_time_passes(open_invoice):
    page = get_page(open_invoice.pk)

    assert etag(page) == etag(replace(page, now=page.now + timedelta(minutes=1)))


@pytest.mark.parametrize(
    ("model", "columns"),
    [
        (InvoiceCollection, {"number": "CARAVEL-0002"}),
        (InvoiceCollection, {"amount_remaining_cents": 380}),
        (InvoiceCollection, {"suspend_at": None}),
        (InvoiceCollection, {"finalized_at": None}),
        (Tenant, {"display_name": "Ada"}),
        (Tenant, {"autopay_paused": True}),
        (Relay, {"status": Relay.Status.INACTIVE}),
    ],
)
def test_etag_changes_with_everything_on_the_page(open_invoice, model, columns):
    before = etag(get_page(open_invoice.pk))

    model.objects.update(**columns)

    assert etag(get_page(open_invoice.pk)) != before
