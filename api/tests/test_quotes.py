"""Quotes of plan changes over the API, and the tenant's credit."""

import pytest
from django.utils import timezone
from drf_spectacular.generators import SchemaGenerator

from billing.models import Credit
from billing.services.subscriptions.sync import sync_tenant
from lightning.exceptions import RateUnavailable
from lightning.services import rates
from relays.models import Relay
from relays.tests.factories import RelayFactory
from tenants.models import Tenant

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("rates")]


@pytest.fixture
def birds(tenant, prices) -> Relay:
    """Ann's relay, on the basic plan and billed."""
    relay = RelayFactory(tenant=tenant, plan_id="basic")
    sync_tenant(tenant_id=tenant.pk)
    return relay


def test_quote_has_lines_and_amounts_in_money_and_sats(ann, birds):
    quote = ann.get(f"/api/relays/{birds.pk}/quote?plan=growth").data

    assert (quote["relay"], quote["plan"]) == (str(birds.pk), "growth")
    assert quote["currency"] == "usd"
    for part in (quote["now"], quote["renewal"]):
        total = sum(line["amount_cents"] for line in part["lines"])
        assert part["amount_cents"] == total > 0
        expected = rates.quote(amount_cents=total, currency="usd")
        assert part["amount_sats"] == expected.amount_msat // 1000
        assert part["at"] > timezone.now().isoformat()
    assert quote["renewal"]["amount_cents"] == 2_500
    assert quote["expires_at"] > timezone.now().isoformat()


def test_quote_without_a_rate_has_no_sats(ann, birds, monkeypatch):
    def no_rate(**arguments):
        raise RateUnavailable("No rate.")

    monkeypatch.setattr(rates, "quote", no_rate)
    quote = ann.get(f"/api/relays/{birds.pk}/quote?plan=growth").data

    assert quote["now"]["amount_sats"] is None
    assert quote["now"]["amount_cents"] > 0


def test_change_with_a_quote_is_made_at_the_quoted_amount(ann, birds, sandbox):
    path = f"/api/relays/{birds.pk}"
    quote = ann.get(f"{path}/quote?plan=growth").data

    changed = ann.patch(path, {"plan": "growth", "quote": quote["id"], "name": "B"})
    again = ann.patch(path, {"plan": "growth", "quote": quote["id"]})
    sync_tenant(tenant_id=birds.tenant_id)

    assert (changed.data["plan"], changed.data["name"]) == ("growth", "B")
    assert again.data["plan"] == "growth"
    items = sandbox.client().v1.invoice_items.list({"limit": 100}).data
    assert sum(item.amount for item in items) == quote["now"]["amount_cents"]


def test_change_with_a_quote_of_another_amount_is_refused(ann, birds, sandbox):
    path = f"/api/relays/{birds.pk}"
    quote = ann.get(f"{path}/quote?plan=growth").data
    subscription = Tenant.objects.get(pk=ann.pubkey).stripe_subscription_id
    coupon = sandbox.client().v1.coupons.create(
        {"percent_off": 50, "duration": "forever"}
    )
    sandbox.client().v1.subscriptions.update(
        subscription, {"discounts": [{"coupon": coupon.id}]}
    )

    refusal = ann.patch(path, {"plan": "growth", "quote": quote["id"]})

    assert refusal.error == (409, "quote-changed")
    assert ann.get(path).data["plan"] == "basic"


def test_quote_that_does_not_fit_the_change_is_refused(ann, birds):
    path = f"/api/relays/{birds.pk}"
    quote = ann.get(f"{path}/quote?plan=growth").data["id"]

    for body in (
        {"plan": "free", "quote": quote},
        {"plan": "growth", "quote": "x"},
        {"quote": quote},
    ):
        assert ann.patch(path, body).error == (422, "quote-invalid")
    assert ann.get(path).data["plan"] == "basic"


def test_quote_needs_an_own_relay_and_a_plan(ann, ben, birds):
    path = f"/api/relays/{birds.pk}/quote"

    assert ben.get(f"{path}?plan=growth").error == (404, "relay-not-found")
    assert ann.get(path).error == (400, "parameter-invalid")
    assert ann.get(f"{path}?plan=gold").error == (422, "plan-unknown")
    assert ann.get(f"{path}?plan=growth&relay=x").error == (400, "parameter-unknown")


def test_change_beyond_a_quota_is_not_quoted(ann, birds, settings):
    settings.QUOTA_FREE_RELAYS = settings.QUOTA_UNPAID_CENTS = 0
    path = f"/api/relays/{birds.pk}/quote"

    assert ann.get(f"{path}?plan=free").error == (409, "free-relay-quota")
    assert ann.get(f"{path}?plan=growth").error == (409, "unpaid-relay-quota")
    operation = SchemaGenerator().get_schema(request=None, public=True)["paths"]
    documented = operation["/api/relays/{relay_id}/quote"]["get"]["responses"]["409"]
    for code in ("free-relay-quota", "unpaid-relay-quota"):
        assert f"`{code}`" in documented["description"]


def test_quotes_are_limited_like_other_calls_to_stripe(ann, birds, settings):
    settings.API_RATE_COSTLY = "2/hour"
    path = f"/api/relays/{birds.pk}"
    quote = ann.get(f"{path}/quote?plan=growth").data["id"]
    ann.get(f"{path}/quote?plan=growth")

    assert ann.get(f"{path}/quote?plan=growth").error == (429, "throttled")
    with_quote = ann.patch(path, {"plan": "growth", "quote": quote})
    assert with_quote.error == (429, "throttled")
    assert ann.patch(path, {"name": "Birds"}).status == 200


def test_tenant_sees_its_credit_at_stripe_and_what_is_to_come(
    ann, ben, birds, tenant, sandbox
):
    path = f"/api/tenants/{ann.pubkey}/credit"
    tenant.refresh_from_db()
    sandbox.client().v1.customers.balance_transactions.create(
        tenant.stripe_customer_id, {"amount": -420, "currency": "usd"}
    )
    for currency, amount_cents in (("eur", 7), ("usd", 30)):
        Credit.objects.create(
            tenant=tenant,
            reason="surplus",
            source=currency,
            currency=currency,
            amount_cents=amount_cents,
        )

    assert ann.get(path).data == {
        "currency": "usd",
        "credit_cents": 420,
        "pending_cents": 30,
    }
    assert ben.get(path).error == (404, "tenant-not-found")


def test_tenant_without_a_customer_has_no_credit(ann):
    assert ann.get(f"/api/tenants/{ann.pubkey}/credit").data == {
        "currency": "",
        "credit_cents": 0,
        "pending_cents": 0,
    }


def test_quote_says_that_a_relay_which_never_ran_is_not_charged_yet(
    ann, tenant, prices, settings
):
    settings.BILLING_SERVED_RELAYS_ONLY = True
    relay = RelayFactory(tenant=tenant, plan_id="basic")
    sync_tenant(tenant_id=tenant.pk)
    path = f"/api/relays/{relay.pk}/quote?plan=growth"
    waiting = ann.get(path).data

    relay.first_served_at = timezone.now()
    relay.save(update_fields=["first_served_at"])
    sync_tenant(tenant_id=tenant.pk)
    running = ann.get(path).data

    assert waiting["starts_when_served"] is True
    assert waiting["now"]["amount_cents"] == 2_500
    assert running["starts_when_served"] is False
