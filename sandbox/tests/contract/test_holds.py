"""Changes that staff, customers and card networks make at Stripe."""

from typing import Any

import pytest
import stripe

from sandbox.tests.support.stripe import contract_builders
from sandbox.tests.support.stripe.contract_account import Account
from sandbox.tests.support.stripe.contract_builders import DAY, HOUR


@pytest.fixture
def paused_collection(account: Account, price: stripe.Price) -> Any:
    """Function that pauses the collection of a paid subscription and returns it."""

    def pause(behavior: str, **fields: Any) -> stripe.Subscription:
        subscription = contract_builders.subscription(account, price)
        invoice = contract_builders.first_invoice(account, subscription)
        account.api.v1.invoices.pay(invoice.id, {"paid_out_of_band": True})
        changes: Any = {"pause_collection": {"behavior": behavior, **fields}}
        return account.api.v1.subscriptions.update(subscription.id, changes)

    return pause


@pytest.fixture
def paused(account: Account, price: stripe.Price) -> stripe.Subscription:
    """Automatic subscription that was paused after ten days."""
    payer = account.customer()
    save_card(account, payer, "pm_card_visa")
    subscription = account.api.v1.subscriptions.create(
        {
            "customer": payer.id,
            "items": [{"price": price.id}],
            "billing_mode": {"type": "flexible"},
        }
    )
    account.advance(10 * DAY)
    return account.api.v1.subscriptions.pause(subscription.id)


def save_card(account: Account, payer: stripe.Customer, name: str) -> str:
    method = account.api.v1.payment_methods.attach(name, {"customer": payer.id})
    account.api.v1.customers.update(
        payer.id, {"invoice_settings": {"default_payment_method": method.id}}
    )
    return method.id


def newest(account: Account, subscription: stripe.Subscription) -> Any:
    params: Any = {"subscription": subscription.id}
    return account.api.v1.invoices.list(params).data[0]


def event_about(account: Account, type: str, id: str) -> Any:
    """Return the newest event of a type about an object, once there is one."""
    return account.eventually(
        lambda: next(
            iter(
                contract_builders.about(
                    id, contract_builders.events(account, type, since=0)
                )
            ),
            None,
        )
    )


def test_keep_as_draft_leaves_new_invoices_drafts(account, paused_collection):
    subscription = paused_collection("keep_as_draft")

    account.advance(32 * DAY)

    invoice = newest(account, subscription)
    after = account.api.v1.subscriptions.retrieve(subscription.id)
    assert (invoice.status, invoice.auto_advance) == ("draft", False)
    assert after.status == "active"


def test_a_kept_draft_stays_a_draft_after_the_pause(account, paused_collection):
    subscription = paused_collection("keep_as_draft")
    account.advance(32 * DAY)

    account.api.v1.subscriptions.update(subscription.id, {"pause_collection": ""})
    account.advance(DAY)

    assert newest(account, subscription).status == "draft"


def test_mark_uncollectible_writes_new_invoices_off(account, paused_collection):
    subscription = paused_collection("mark_uncollectible")

    account.advance(32 * DAY)

    invoice = newest(account, subscription)
    assert invoice.status == "uncollectible"
    assert invoice.status_details.uncollectible.reason == "subscription_paused"
    after = account.api.v1.subscriptions.retrieve(subscription.id)
    assert after.status == "active"


def test_mark_uncollectible_uses_the_balance_first(account, paused_collection):
    subscription = paused_collection("mark_uncollectible")
    account.api.v1.customers.balance_transactions.create(
        subscription.customer, {"amount": -1_000, "currency": "usd"}
    )

    account.advance(32 * DAY)

    assert newest(account, subscription).status == "paid"


def test_void_voids_new_invoices_without_the_balance(account, paused_collection):
    subscription = paused_collection("void")
    account.api.v1.customers.balance_transactions.create(
        subscription.customer, {"amount": -1_000, "currency": "usd"}
    )

    account.advance(32 * DAY)

    assert newest(account, subscription).status == "void"
    assert account.api.v1.customers.retrieve(subscription.customer).balance == -1_000


def test_an_earlier_invoice_is_finalized_during_the_pause(account, price):
    subscription = contract_builders.subscription(account, price)
    changes: Any = {"pause_collection": {"behavior": "void"}}
    account.api.v1.subscriptions.update(subscription.id, changes)

    account.advance(2 * HOUR)

    assert newest(account, subscription).status == "open"


def test_collection_resumes_at_the_given_time(account, paused_collection):
    subscription = paused_collection("void", resumes_at=account.now() + 20 * DAY)

    account.advance(32 * DAY)

    after = account.api.v1.subscriptions.retrieve(subscription.id)
    assert after.pause_collection is None
    assert newest(account, subscription).status == "open"


def test_a_subscription_with_sent_invoices_cannot_be_paused(account, price):
    subscription = contract_builders.subscription(account, price)

    with pytest.raises(stripe.InvalidRequestError):
        account.api.v1.subscriptions.pause(subscription.id)


def test_a_paused_subscription_makes_no_invoices(account, paused):
    account.advance(60 * DAY)

    params: Any = {"subscription": paused.id}
    assert (paused.status, len(account.api.v1.invoices.list(params).data)) == (
        "paused",
        1,
    )
    assert paused.status_details.paused.subscription.type == "pause_requested"


def test_a_pause_credits_the_unused_time(account, paused):
    (credit,) = contract_builders.pending(account, paused.customer)

    assert -700 < credit.amount < -600


def test_a_resumed_subscription_is_active_once_its_invoice_is_paid(account, paused):
    waiting = account.api.v1.subscriptions.resume(paused.id)

    account.api.v1.invoices.pay(waiting.latest_invoice)

    after = account.api.v1.subscriptions.retrieve(paused.id)
    assert (waiting.status, after.status) == ("paused", "active")


def test_an_unchanged_anchor_resumes_at_once(account, paused):
    params: Any = {"billing_cycle_anchor": {"type": "unchanged"}}

    resumed = account.api.v1.subscriptions.resume(paused.id, params)

    assert resumed.status == "active"
    event = event_about(account, "customer.subscription.resumed", paused.id)
    assert event.data.object.status == "active"


def test_a_draft_is_finalized_at_a_chosen_time(account, price):
    subscription = contract_builders.subscription(account, price)
    at = account.now() + 3 * DAY
    account.api.v1.invoices.update(
        subscription.latest_invoice, {"automatically_finalizes_at": at}
    )

    account.advance(2 * DAY)
    before = newest(account, subscription).status
    account.advance(DAY + HOUR)

    assert (before, newest(account, subscription).status) == ("draft", "open")


def test_an_item_of_a_draft_can_be_deleted(account, price):
    subscription = contract_builders.subscription(account, price)
    item = account.api.v1.invoice_items.create(
        {
            "customer": subscription.customer,
            "invoice": subscription.latest_invoice,
            "amount": 500,
            "currency": "usd",
        }
    )
    more = newest(account, subscription).total

    account.api.v1.invoice_items.delete(item.id)

    assert (more, newest(account, subscription).total) == (1_500, 1_000)


def test_an_archived_price_is_not_sold_but_goes_on(account, price):
    subscription = contract_builders.subscription(account, price)
    account.api.v1.prices.update(price.id, {"active": False})

    item = subscription["items"].data[0].id
    changes: Any = {"items": [{"id": item, "quantity": 2}]}
    changed = account.api.v1.subscriptions.update(subscription.id, changes)

    assert changed["items"].data[0].quantity == 2
    with pytest.raises(stripe.InvalidRequestError, match="inactive"):
        contract_builders.subscription(account, price)


def test_removed_metadata_is_in_previous_attributes(account, price):
    subscription = contract_builders.subscription(account, price)

    removed = account.api.v1.subscriptions.update(
        subscription.id, {"metadata": {"tenant_pubkey": ""}}
    )

    event = event_about(account, "customer.subscription.updated", subscription.id)
    assert removed.metadata.to_dict() == {}
    assert event.data.previous_attributes.metadata.tenant_pubkey == "ab" * 32


def test_added_metadata_is_null_in_previous_attributes(account, price):
    subscription = contract_builders.subscription(account, price)
    invoice = contract_builders.first_invoice(account, subscription)
    account.api.v1.invoices.update(invoice.id, {"metadata": {"added": "x"}})

    event = event_about(account, "invoice.updated", invoice.id)

    assert event.data.previous_attributes.to_dict() == {"metadata": {"added": None}}


def test_each_new_status_of_an_invoice_has_an_event_of_its_own(account, price):
    paid, voided, written_off = (
        contract_builders.first_invoice(
            account, contract_builders.subscription(account, price)
        )
        for _ in range(3)
    )
    account.api.v1.invoices.pay(paid.id, {"paid_out_of_band": True})
    account.api.v1.invoices.void_invoice(voided.id)
    account.api.v1.invoices.mark_uncollectible(written_off.id)

    assert event_about(account, "invoice.finalized", paid.id)
    assert event_about(account, "invoice.paid", paid.id)
    assert event_about(account, "invoice.voided", voided.id)
    assert event_about(account, "invoice.marked_uncollectible", written_off.id)


def test_a_renewal_changes_the_periods_and_the_latest_invoice(account, price):
    subscription = contract_builders.subscription(account, price)
    contract_builders.first_invoice(account, subscription)
    end = subscription.items.data[0].current_period_end

    account.advance(end - account.now() + 60)

    event = event_about(account, "customer.subscription.updated", subscription.id)
    data = event.data.to_dict(for_json=True)
    previous = data["previous_attributes"]
    [before], [after] = previous["items"]["data"], data["object"]["items"]["data"]
    changed = {name for name in before if before[name] != after[name]}
    assert previous.keys() == {"items", "latest_invoice"}
    assert changed == {"current_period_start", "current_period_end", "billed_until"}


def test_a_customer_can_have_two_subscriptions_to_a_price(account, price):
    first = contract_builders.subscription(account, price)
    payer = account.api.v1.customers.retrieve(first.customer)

    second = contract_builders.subscription(account, price, to=payer)

    assert (second.id != first.id, second.status) == (True, "active")


def test_a_changed_default_card_is_in_previous_attributes(account):
    payer = account.customer()
    first = save_card(account, payer, "pm_card_visa")
    save_card(account, payer, "pm_card_mastercard")

    event = event_about(account, "customer.updated", payer.id)

    previous = event.data.previous_attributes.invoice_settings
    assert previous.default_payment_method == first


def test_a_changed_email_is_in_previous_attributes(account):
    payer = account.customer()
    account.api.v1.customers.update(payer.id, {"email": "eve@example.com"})

    event = event_about(account, "customer.updated", payer.id)

    assert event.data.previous_attributes.email == "ann@example.com"


def test_a_card_number_has_one_fingerprint(account):
    attach = account.api.v1.payment_methods.attach
    names = ("pm_card_visa", "pm_card_visa", "pm_card_mastercard")

    first, again, other = (
        attach(name, {"customer": account.customer().id}).card.fingerprint
        for name in names
    )

    assert (first == again, first == other) == (True, False)


def test_another_card_replaces_a_pending_challenge(account, price):
    payer = account.customer()
    save_card(account, payer, "pm_card_authenticationRequired")
    subscription = contract_builders.subscription(account, price, to=payer)
    invoice = contract_builders.first_invoice(account, subscription)
    with pytest.raises(stripe.CardError):
        account.api.v1.invoices.pay(invoice.id)
    other = save_card(account, payer, "pm_card_visa")

    paid = account.api.v1.invoices.pay(invoice.id, {"payment_method": other})

    assert paid.status == "paid"


def test_the_account_of_a_key_has_an_id_and_no_mode(account):
    current = account.api.v1.accounts.retrieve_current()

    assert current.id.startswith("acct_")
    assert "livemode" not in current


def test_invoices_are_listed_by_time(account, price):
    subscription = contract_builders.subscription(account, price)
    created = newest(account, subscription).created

    params: Any = {"subscription": subscription.id}
    after = {**params, "created": {"gt": created}}
    since = {**params, "created": {"gte": created}}

    assert account.api.v1.invoices.list(after).data == []
    assert len(account.api.v1.invoices.list(since).data) == 1


def test_listed_invoices_can_include_their_intents(account, price):
    subscription = contract_builders.subscription(account, price)
    contract_builders.first_invoice(account, subscription)

    expand = ["data.payments.data.payment.payment_intent"]
    params: Any = {"subscription": subscription.id, "expand": expand}
    (invoice,) = account.api.v1.invoices.list(params).data

    intent = invoice.payments.data[0].payment.payment_intent
    assert intent.status == "requires_payment_method"
