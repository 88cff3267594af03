"""Random histories of an account, including refused requests.

Invariants: no card is charged twice or for nothing, time never runs backwards, the next
timer matches the records, all objects and events match Stripe's SDKs, and after a
restart the account behaves the same.
"""

import random
import shutil
from typing import Any

import pytest
import stripe

from caravel.tests.support import search
from sandbox.common.http import dump_json
from sandbox.stripe.api.errors import StripeError
from sandbox.stripe.app import StripeApp
from sandbox.stripe.client.in_process import in_process_client
from sandbox.stripe.objects.discounts import discounts
from sandbox.stripe.objects.invoices import pay
from sandbox.stripe.objects.payments import payment_methods
from sandbox.stripe.objects.portal import hosted_actions
from sandbox.stripe.objects.registry import REGISTRY
from sandbox.stripe.objects.reversals import disputes, refunds
from sandbox.tests.support.stripe import audit, builders, conformance
from sandbox.tests.support.stripe.builders import DAY, HOUR

CARDS = (
    "pm_card_visa",
    "pm_card_pendingRefund",
    "pm_card_refundFail",
    "pm_card_createDisputeInquiry",
    "pm_usBankAccount_success",
    "pm_usBankAccount_insufficientFunds",
    "pm_usBankAccount_dispute",
    "pm_card_chargeCustomerFail",
    "pm_card_authenticationRequired",
)
PRORATIONS = ("none", "create_prorations", "always_invoice")
COUPONS: tuple[dict[str, Any], ...] = (
    {"percent_off": 33.33},
    {"percent_off": 100, "duration": "once"},
    {"amount_off": 101, "currency": "usd"},
    {"amount_off": 500, "currency": "usd", "duration": "once"},
    {"percent_off": 7, "duration": "repeating", "duration_in_months": 1},
    {"amount_off": 100, "currency": "eur"},
)
TAX_RATES = ((20, False), (7.7, False), (19, True))
PAYMENT_OPTIONS: tuple[Any, ...] = (
    {"collection_method": "send_invoice", "days_until_due": 0},
    {"collection_method": "send_invoice", "days_until_due": 20},
    {},
    {},
)


class History:
    """Two customers, and random actions on them."""

    def __init__(self, seed, state):
        self.random = random.Random(seed)
        self.app = StripeApp(seed=seed, state=state)
        self.api = in_process_client(self.app)
        self.app.change_settings(
            {
                "after_dispute": self.pick("nothing", "cancel", "cancel_at_period_end"),
                "after_last_retry": self.pick("past_due", "unpaid", "canceled"),
                "canceled_prorations": self.pick("deleted", "kept"),
                "credit_note_taxes": self.pick("proportional", "none"),
                "credit_uncollectible": self.pick("refused", "allowed"),
                "paused_invoices": self.pick("at_once", "after_an_hour"),
                "out_of_band_payments": self.pick("unlisted", "payment_record"),
                "overdue_after_days": 2,
                "tax_rounding": self.pick("item", "invoice"),
            }
        )
        self.prices = [
            builders.price(self.api, 300, recurring={"interval": every}).id
            for every in ("week", "month", "year")
        ]
        self.coupons = [builders.coupon(self.api, **kind).id for kind in COUPONS]
        self.tax_rates = [
            builders.tax_rate(self.api, percentage, inclusive=inclusive).id
            for percentage, inclusive in TAX_RATES
        ]
        self.payers = [builders.customer(self.api).id for _ in range(2)]
        actions = [
            getattr(self, name) for name in vars(History) if name.startswith("do_")
        ]
        # Each history does without some actions, so that the others meet more often.
        self.actions = self.random.sample(actions, self.random.randrange(8, 24))
        # What most other actions need, and what moves an account on.
        self.actions += 3 * [self.do_subscribe, self.do_wait]
        for payer in self.payers:
            builders.card(self.api, payer, self.pick(*CARDS))

    def step(self):
        """Run one random action, valid or not."""
        self.payer = self.pick(*self.payers)
        action = self.pick(*self.actions)
        if action == self.do_wait:
            # Nothing that falls due may be refused.
            action()
            return
        try:
            action()
        except (stripe.InvalidRequestError, stripe.CardError) as refusal:
            assert refusal.http_status in (400, 402, 404)
        except StripeError as refusal:
            assert refusal.status in (400, 404)

    def pick(self, *options):
        return self.random.choice(options)

    def transact(self, action, *args, **options):
        self.app.transact(lambda context: action(context, *args, **options))

    def coin_flip(self):
        return self.random.random() < 0.5

    def invoice(self, *statuses):
        """Return the id of an invoice, with one of the statuses if there is any."""
        page = self.api.v1.invoices.list({"customer": self.payer, "limit": 30})
        found = [invoice for invoice in page.data if invoice.status in statuses]
        invoices = found or page.data
        return self.pick(*invoices).id if invoices else "in_none"

    def subscription(self, *statuses):
        """Return the id of a subscription, by default seldom of an ended one."""
        statuses = statuses or ("all", *3 * [None])
        params: Any = {"customer": self.payer}
        if status := self.pick(*statuses):
            params["status"] = status
        page = self.api.v1.subscriptions.list(params)
        return self.pick(*page.data).id if page.data else "sub_none"

    def some_coupons(self):
        """Return a `discounts` parameter; sometimes "", which removes all."""
        chosen = self.random.sample(self.coupons, self.random.randrange(3))
        return [{"coupon": id} for id in chosen] or ""

    def some_discount(self):
        """Return a discount of the customer or of a subscription."""
        subscription = self.api.v1.subscriptions.retrieve(self.subscription())
        customer: Any = self.api.v1.customers.retrieve(self.payer)
        inherited = getattr(customer, "discount", None)
        ids: Any = [*subscription.discounts, *([inherited.id] if inherited else [])]
        return self.pick(*ids) if ids else "di_none"

    def some_tax_rates(self):
        return self.random.sample(self.tax_rates, self.random.randrange(3)) or ""

    def do_save_card(self):
        builders.card(self.api, self.payer, self.pick(*CARDS))

    def do_subscribe(self):
        params: Any = {
            "customer": self.payer,
            "items": [{"price": self.pick(*self.prices)}],
        }
        params.update(self.pick(*PAYMENT_OPTIONS))
        if self.coin_flip():
            params["discounts"] = self.some_coupons()
            params["default_tax_rates"] = self.some_tax_rates()
        self.api.v1.subscriptions.create(params)

    def do_change_quantity(self):
        id = self.subscription()
        item = self.api.v1.subscriptions.retrieve(id)["items"].data[0].id
        change: Any = {"items": [{"id": item, "quantity": self.random.randrange(4)}]}
        change["proration_behavior"] = self.pick(*PRORATIONS)
        self.api.v1.subscriptions.update(id, change)

    def do_discount(self):
        id = self.subscription()
        change: Any = {"discounts": self.some_coupons()}
        if self.coin_flip():
            item = self.api.v1.subscriptions.retrieve(id)["items"].data[0].id
            change["items"] = [{"id": item, "quantity": self.random.randrange(4)}]
            change["proration_behavior"] = self.pick(*PRORATIONS)
        self.api.v1.subscriptions.update(id, change)

    def do_add_discount(self):
        subscription = self.api.v1.subscriptions.retrieve(self.subscription())
        kept: Any = [{"discount": id} for id in subscription.discounts]
        change: Any = {"discounts": [*kept, {"coupon": self.pick(*self.coupons)}]}
        self.api.v1.subscriptions.update(subscription.id, change)

    def do_delete_discounts(self):
        self.api.v1.subscriptions.delete_discount(self.subscription())

    def do_discount_customer(self):
        coupon = self.pick(*self.coupons)
        self.transact(discounts.set_on_customer, self.payer, coupon)

    def do_delete_customer_discount(self):
        self.api.v1.customers.delete_discount(self.payer)

    def do_tax(self):
        change: Any = {"default_tax_rates": self.some_tax_rates()}
        self.api.v1.subscriptions.update(self.subscription(), change)

    def do_tax_item(self):
        id = self.subscription()
        item = self.api.v1.subscriptions.retrieve(id)["items"].data[0].id
        change: Any = {"items": [{"id": item, "tax_rates": self.some_tax_rates()}]}
        self.api.v1.subscriptions.update(id, change)

    def do_price_draft(self):
        change: Any = {
            "discounts": self.some_coupons(),
            "default_tax_rates": self.some_tax_rates(),
        }
        if self.coin_flip():
            change["discounts"] = [{"discount": self.some_discount()}]
        self.api.v1.invoices.update(self.invoice("draft"), change)

    def do_add_price(self):
        change: Any = {"items": [{"price": self.pick(*self.prices)}]}
        self.api.v1.subscriptions.update(self.subscription(), change)

    def do_pause_collection(self):
        behavior = self.pick("keep_as_draft", "mark_uncollectible", "void")
        pause: Any = {"behavior": behavior}
        if self.coin_flip():
            pause["resumes_at"] = self.app.clock.now() + self.pick(HOUR, 20 * DAY)
        change: Any = {"pause_collection": self.pick(pause, pause, "")}
        self.api.v1.subscriptions.update(self.subscription(), change)

    def do_pause(self):
        since = self.pick("item_current_period_start", "none", "now")
        params: Any = {
            "bill_for": {"unused_time_from": {"type": since}},
            "invoicing_behavior": self.pick("invoice", "pending_invoice_item"),
        }
        self.api.v1.subscriptions.pause(self.subscription(), params)

    def do_resume(self):
        if not self.api.v1.subscriptions.list({"status": "paused"}).data:
            self.do_pause()
        params: Any = {
            "billing_cycle_anchor": {"type": self.pick("now", "unchanged")},
            "payment_behavior": self.pick(
                "resume_on_payment_attempt", "resume_on_payment_success"
            ),
            "proration_behavior": self.pick(*PRORATIONS),
        }
        self.api.v1.subscriptions.resume(self.subscription("paused"), params)

    def do_schedule_cancellation(self):
        change: Any = {"cancel_at_period_end": self.coin_flip()}
        self.api.v1.subscriptions.update(self.subscription(), change)

    def do_cancel(self):
        options: Any = {"prorate": self.coin_flip(), "invoice_now": self.coin_flip()}
        self.api.v1.subscriptions.cancel(self.subscription(), options)

    def do_add_invoice_item(self):
        item: Any = {
            "customer": self.payer,
            "amount": self.random.randrange(-500, 2_000),
        }
        if self.coin_flip():
            item["subscription"] = self.subscription()
        elif self.coin_flip():
            item["invoice"] = self.invoice()
        if self.coin_flip():
            item["discountable"] = self.coin_flip()
            item["tax_rates"] = self.some_tax_rates()
        item["currency"] = "usd"
        self.api.v1.invoice_items.create(item)

    def do_edit_invoice_item(self):
        page = self.api.v1.invoice_items.list({"customer": self.payer})
        item = self.pick(*page.data).id if page.data else "ii_none"
        if self.coin_flip():
            self.api.v1.invoice_items.delete(item)
        else:
            amount = self.random.randrange(-500, 2_000)
            self.api.v1.invoice_items.update(item, {"amount": amount})

    def do_create_one_off_invoice(self):
        invoice: Any = {
            "customer": self.payer,
            "pending_invoice_items_behavior": self.pick("include", "exclude"),
            "auto_advance": self.coin_flip(),
        }
        if self.coin_flip():
            invoice["discounts"] = self.some_coupons()
            invoice["default_tax_rates"] = self.some_tax_rates()
        self.api.v1.invoices.create(invoice)

    def do_finalize(self):
        self.api.v1.invoices.finalize_invoice(
            self.invoice(), {"auto_advance": self.coin_flip()}
        )

    def do_set_auto_advance(self):
        self.api.v1.invoices.update(self.invoice(), {"auto_advance": self.coin_flip()})

    def do_schedule_finalization(self):
        at = self.app.clock.now() + self.pick(60, 10 * DAY)
        change: Any = {"automatically_finalizes_at": at}
        self.api.v1.invoices.update(self.invoice(), change)

    def do_refuse_finalization(self):
        code = self.pick("customer_tax_location_invalid", "")
        change: Any = {"metadata": {"sandbox_finalization": code}}
        self.api.v1.invoices.update(self.invoice(), change)

    def do_reissue_card(self):
        for method in self.api.v1.payment_methods.list({"customer": self.payer}).data:
            self.transact(payment_methods.reissue, method.id, "pm_card_visa")

    def do_pay(self):
        self.api.v1.invoices.pay(self.invoice())

    def do_pay_out_of_band(self):
        self.api.v1.invoices.pay(self.invoice(), {"paid_out_of_band": True})

    def do_authenticate(self):
        page = self.api.v1.payment_intents.list({"customer": self.payer})
        challenged = [
            intent.id for intent in page.data if intent.status == "requires_action"
        ]
        if challenged:
            passed = self.coin_flip()
            self.app.transact(
                lambda context: hosted_actions.authenticate(
                    context, challenged[0], passed=passed
                )
            )

    def do_settle_debit(self):
        for intent in self.api.v1.payment_intents.list({"customer": self.payer}).data:
            if intent.status == "processing":
                failure = self.pick(None, "account_closed")
                self.transact(pay.settle, intent.id, failure=failure)

    def do_credit(self):
        id = self.invoice("open", "paid", "uncollectible")
        invoice = self.api.v1.invoices.retrieve(id)
        amount = max(1, self.pick(1, 100, invoice.total))
        note: Any = {"invoice": invoice.id, "amount": amount}
        if invoice.status == "paid":
            note[self.pick("credit_amount", "refund_amount")] = amount
        self.api.v1.credit_notes.create(note)

    def do_void_credit_note(self):
        for note in self.api.v1.credit_notes.list({"invoice": self.invoice()}).data:
            self.api.v1.credit_notes.void_credit_note(note.id)

    def charge(self):
        page = self.api.v1.charges.list({"customer": self.payer})
        return self.pick(*page.data).id if page.data else "ch_none"

    def do_refund(self):
        refund: Any = {"charge": self.charge()}
        if self.coin_flip():
            refund["amount"] = self.pick(1, 100, 300)
        self.api.v1.refunds.create(refund)

    def do_settle_refund(self):
        for refund in self.api.v1.refunds.list({"charge": self.charge()}).data:
            reason = self.pick(None, "declined")
            self.transact(refunds.settle, refund.id, failure_reason=reason)

    def do_open_dispute(self):
        id, inquiry = self.charge(), self.coin_flip()
        self.app.transact(
            lambda context: disputes.open_dispute(
                context, context.get("charge", id), inquiry=inquiry
            )
        )

    def do_continue_dispute(self):
        for dispute in self.api.v1.disputes.list({"charge": self.charge()}).data:
            outcome = self.pick("won", "lost", "warning_closed", "escalated")
            if outcome == "escalated":
                self.transact(disputes.escalate, dispute.id)
            else:
                self.transact(disputes.close, dispute.id, outcome)

    def do_respond(self):
        text = self.pick("winning_evidence", "escalate_inquiry_evidence", "evidence")
        for dispute in self.api.v1.disputes.list({"charge": self.charge()}).data:
            self.api.v1.disputes.update(
                dispute.id, {"evidence": {"uncategorized_text": text}}
            )

    def do_void(self):
        self.api.v1.invoices.void_invoice(self.invoice())

    def do_mark_uncollectible(self):
        self.api.v1.invoices.mark_uncollectible(self.invoice())

    def do_delete_draft(self):
        self.api.v1.invoices.delete(self.invoice())

    def do_delete_customer(self):
        if self.random.random() < 0.1:
            self.api.v1.customers.delete(self.payer)

    def do_wait(self):
        self.app.advance(self.pick(1, 60, HOUR, DAY, 5 * DAY, 20 * DAY))


def next_due_at(app):
    """Return when the next timer is due, computed from all records."""
    times = (
        resource.timer.due_at(record)
        for kind, resource in REGISTRY.by_name.items()
        if resource.timer
        for record in app.store.scan(kind)
    )
    return min((at for at in times if at is not None), default=None)


def event_times(store):
    return [event["created"] for event in store.scan("event", newest_first=False)]


def inconsistent_intents(store):
    """Return the payment intents that contradict their invoice or charges."""
    paid: dict[str, list[int]] = {}
    for charge in store.scan("charge"):
        if charge["paid"]:
            paid.setdefault(charge["payment_intent"], []).append(charge["amount"])
    inconsistent = []
    for intent in store.scan("payment_intent"):
        invoice = store.get("invoice", intent["_invoice"])
        charged = paid.get(intent["id"], [])
        statuses = {"paid": ("canceled", "succeeded"), "void": ("canceled",)}
        is_consistent = (
            charged in ([], [invoice["amount_paid"]])
            and sum(charged) == intent["amount_received"]
            and (not charged or invoice["status"] == "paid")
            and intent["status"] in statuses.get(invoice["status"], (intent["status"],))
        )
        inconsistent += [] if is_consistent else [intent]
    return inconsistent


def future_events(app):
    """Return the events of the next 70 days."""
    before = app.store.count("event")
    app.advance(70 * DAY)
    events = list(app.store.scan("event", newest_first=False))[before:]
    return [(event["type"], event["created"], event["_data"]) for event in events]


def app_after_restart(state):
    """Return the app that another process would load from the state file now."""
    copy = shutil.copy(state, state.with_name("copy.sqlite"))
    shutil.copy(f"{state}-wal", f"{copy}-wal")
    return StripeApp(state=copy)


@pytest.mark.search
@pytest.mark.parametrize("seed", range(search.examples(12)))
def test_account_stays_consistent_through_random_history(tmp_path, monkeypatch, seed):
    state = tmp_path / "stripe.sqlite"
    monkeypatch.setattr("sandbox.stripe.clock.clock.time.time", lambda: 1_800_000_000)
    history = History(seed, state)
    app = history.app

    for _ in range(60):
        history.step()

        assert audit.audit(app.store) == []
        assert app.scheduler.next_at() == next_due_at(app)
        assert next_due_at(app) is None or next_due_at(app) >= app.clock.now()

    assert event_times(app.store) == sorted(event_times(app.store))
    assert inconsistent_intents(app.store) == []
    assert conformance.stored_problems(app) == []
    restarted = app_after_restart(state)
    restarted.ids.restore(app.ids.state())
    # Without the next number: the newest records may have been events, now too old.
    assert dump_json(restarted.store.dump()[0]) == dump_json(app.store.dump()[0])
    assert future_events(restarted) == future_events(app)
    app.close()
    restarted.close()
