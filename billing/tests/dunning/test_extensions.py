"""More time after the end of the grace period, with the subscription at Stripe."""

from datetime import timedelta

import pytest

from billing.models import Credit
from billing.services.dunning.suspension import end_grace_now, extend_grace
from billing.services.payment_page.bolt11 import get_or_issue_bolt11
from billing.services.subscriptions.sync import sync_tenant

pytestmark = pytest.mark.django_db


def test_more_time_brings_relays_back_while_their_credit_waits_for_a_bolt11(
    open_invoice,
):
    tenant = open_invoice.tenant
    get_or_issue_bolt11(invoice_id=open_invoice.pk)
    end_grace_now(tenant_id=tenant.pk, invoice_ids=[open_invoice.pk])
    sync_tenant(tenant_id=tenant.pk)
    assert Credit.objects.unblocked().filter(tenant=tenant).exists()

    extend_grace(invoice_id=open_invoice.pk, by=timedelta(days=3))

    assert tenant.relays.get().status == "active"
