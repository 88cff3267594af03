"""Support sees what was taken back, and writes off what it lets go."""

import pytest
from django.contrib.admin.utils import quote
from django.urls import reverse

from billing.models import InvoiceCollection, Reversal
from billing.tests.support.admin import admin_url, message_texts, run_action
from billing.tests.support.reversals import (
    deliver_all,
    dispute,
    refund,
    warn_of_fraud,
)
from tenants.models import Tenant

pytestmark = pytest.mark.django_db


@pytest.fixture
def reversals(sandbox, payer, charge):
    """A refund, a fraud warning and a dispute."""
    warn_of_fraud(sandbox, charge)
    refund(sandbox, charge, 500)
    dispute(sandbox, charge)
    deliver_all(sandbox)
    return {row.kind: row for row in Reversal.objects.all()}


def rows_of(response):
    return [row.kind for row in response.context["cl"].result_list]


def test_reversals_are_listed_with_the_next_date_for_evidence_first(
    admin_client, reversals, paid
):
    response = admin_client.get(admin_url(Reversal, "changelist"))

    html = response.content.decode()
    assert rows_of(response)[0] == "dispute"
    assert len(rows_of(response)) == 3
    url = admin_url(InvoiceCollection, "change", quote(paid.pk))
    assert f'<a href="{url}">{paid.number}</a>' in html
    assert "$20.00" in html


@pytest.mark.parametrize(
    ("query", "kinds"),
    [
        ({"response": "needed"}, ["dispute"]),
        ({"kind__exact": "refund"}, ["refund"]),
        ({"state__exact": "open"}, ["fraud_warning"]),
    ],
)
def test_reversals_can_be_filtered(admin_client, reversals, query, kinds):
    response = admin_client.get(admin_url(Reversal, "changelist"), query)

    assert rows_of(response) == kinds


def test_reversals_cannot_be_edited(admin_client, reversals):
    row = reversals["dispute"]

    url = admin_url(Reversal, "change", quote(row.pk))
    assert admin_client.post(url, {"state": "won"}).status_code == 403
    assert admin_client.get(reverse("admin:billing_reversal_add")).status_code == 403


def test_collection_shows_its_reversals(admin_client, reversals, paid):
    url = admin_url(InvoiceCollection, "change", quote(paid.pk))

    html = admin_client.get(url).content.decode()

    for row in reversals.values():
        assert row.pk in html


@pytest.mark.parametrize(
    ("model", "action"),
    [(Reversal, "write_off"), (InvoiceCollection, "write_off_dispute")],
)
def test_debt_is_written_off(admin_client, reversals, paid, model, action):
    row = reversals["dispute"] if model is Reversal else paid

    response = run_action(admin_client, model, action, row)

    assert message_texts(response) == ["Wrote off the dispute debt of 1 invoice."]
    assert Reversal.objects.get(pk=reversals["dispute"].pk).written_off_cents == 2000
    paid.refresh_from_db()
    assert paid.dispute_debt_cents == 0


def test_tenant_shows_the_debt_as_unpaid(admin_client, reversals):
    html = admin_client.get(admin_url(Tenant, "changelist")).content.decode()

    assert "$20.00" in html
