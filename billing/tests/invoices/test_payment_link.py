"""The payment link of a tenant with unpaid invoices."""

from datetime import timedelta

import pytest
from django.utils import timezone

from billing.services.invoices.payment_link import oldest_unpaid_link, verify_token
from billing.tests.factories import InvoiceCollectionFactory
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db


def test_link_is_to_the_oldest_unpaid_invoice():
    tenant = TenantFactory()
    for days, state in (
        (1, {"stripe_status": "open"}),
        (3, {"stripe_status": "open", "amount_remaining_cents": 0}),
        (4, {"stripe_status": "paid", "state": "closed", "amount_remaining_cents": 0}),
        (5, {"stripe_status": "draft"}),
    ):
        then = timezone.now() - timedelta(days=days)
        InvoiceCollectionFactory(tenant=tenant, created_at=then, **state)
    then = timezone.now() - timedelta(days=2)
    oldest = InvoiceCollectionFactory(
        tenant=tenant, created_at=then, stripe_status="uncollectible"
    )
    InvoiceCollectionFactory(created_at=timezone.now() - timedelta(days=9))

    link = oldest_unpaid_link(tenant.pk)

    assert link and verify_token(link.rsplit("/", 1)[1]) == oldest.pk


def test_no_link_without_an_unpaid_invoice():
    assert oldest_unpaid_link(TenantFactory().pk) is None
