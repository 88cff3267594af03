"""Random histories of an account, with all that is refused on the way.

Whatever happened: no card paid twice or for nothing, time never ran backwards, what is
due is what the records say, and a restart goes on exactly as the account would have.
"""

import random
import shutil
from typing import Any

import pytest
import stripe

from sandbox.stripe import books
from sandbox.stripe.app import StripeApp
from sandbox.stripe.objects import hosted
from sandbox.stripe.objects.registry import REGISTRY
from sandbox.stripe.protocol.errors import StripeError
from sandbox.stripe.protocol.http import dump_json
from sandbox.stripe.transport import in_process_client
from sandbox.tests.support import stripe_builders as story
from sandbox.tests.support.stripe_builders import DAY, HOUR

CARDS = (
    "pm_card_visa",
    "pm_card_chargeCustomerFail",
    "pm_card_authenticationRequired",
)
PRORATIONS = ("none", "create_prorations", "always_invoice")
STARTS: tuple[Any, ...] = (
    {"collection_method": "send_invoice", "days_until_due": 0},
    {"collection_method": "send_invoice", "days_until_due": 20},
    {"payment_behavior": "allow_incomplete"},
    {"payment_behavior": "error_if_incomplete"},
)


class History:
    """Two customers, and everything that may be done to them."""

    def __init__(self, seed, state):
        self.random = random.Random(seed)
        self.app = StripeApp(seed=seed, state=state)
        self.api = in_process_client(self.app)
        outcome = self.pick("past_due", "unpaid", "canceled")
        self.app.change_settings({"after_last_retry": outcome, "overdue_after_days": 2})
        self.prices = [
            story.price(self.api, 300, recurring={"interval": every}).id
            for every in ("week", "month", "year")
        ]
        self.payers = [story.customer(self.api).id for _ in range(2)]
        self.deeds = [
            getattr(self, name) for name in vars(History) if name.startswith("do_")
        ]

    def step(self):
        """Do one thing that makes sense or not."""
        self.payer = self.pick(*self.payers)
        deed = self.pick(*self.deeds)
        try:
            deed()
        except (stripe.InvalidRequestError, stripe.CardError) as refusal:
            assert refusal.http_status in (400, 402, 404)
        except StripeError as refusal:
            assert refusal.status == 400

    def pick(self, *options):
        return self.random.choice(options)

    def flag(self):
        return self.random.random() < 0.5

    def invoice(self):
        listed = self.api.v1.invoices.list({"customer": self.payer, "limit": 30}).data
        return self.pick(*listed).id if listed else "in_none"

    def subscription(self):
        given: Any = {"customer": self.payer, "status": "all"}
        listed = self.api.v1.subscriptions.list(given).data
        return self.pick(*listed).id if listed else "sub_none"

    def do_save_a_card(self):
        story.card(self.api, self.payer, self.pick(*CARDS))

    def do_subscribe(self):
        given: Any = {
            "customer": self.payer,
            "items": [{"price": self.pick(*self.prices)}],
        }
        given.update(self.pick(*STARTS))
        self.api.v1.subscriptions.create(given)

    def do_change(self):
        id = self.subscription()
        item = self.api.v1.subscriptions.retrieve(id)["items"].data[0].id
        change: Any = {"items": [{"id": item, "quantity": self.random.randrange(4)}]}
        change["proration_behavior"] = self.pick(*PRORATIONS)
        self.api.v1.subscriptions.update(id, change)

    def do_add_a_price(self):
        change: Any = {"items": [{"price": self.pick(*self.prices)}]}
        self.api.v1.subscriptions.update(self.subscription(), change)

    def do_schedule_the_end(self):
        change: Any = {"cancel_at_period_end": self.flag()}
        self.api.v1.subscriptions.update(self.subscription(), change)

    def do_cancel(self):
        options: Any = {"prorate": self.flag(), "invoice_now": self.flag()}
        self.api.v1.subscriptions.cancel(self.subscription(), options)

    def do_preview(self):
        self.api.v1.invoices.create_preview({"subscription": self.subscription()})

    def do_add_an_item(self):
        item: Any = {
            "customer": self.payer,
            "amount": self.random.randrange(-500, 2_000),
        }
        if self.flag():
            item["subscription"] = self.subscription()
        item["currency"] = "usd"
        self.api.v1.invoice_items.create(item)

    def do_bill_by_hand(self):
        self.api.v1.invoices.create(
            {
                "customer": self.payer,
                "pending_invoice_items_behavior": "include",
                "auto_advance": self.flag(),
            }
        )

    def do_finalize(self):
        self.api.v1.invoices.finalize_invoice(
            self.invoice(), {"auto_advance": self.flag()}
        )

    def do_stop_or_go_on(self):
        self.api.v1.invoices.update(self.invoice(), {"auto_advance": self.flag()})

    def do_pay(self):
        self.api.v1.invoices.pay(self.invoice())

    def do_pay_out_of_band(self):
        self.api.v1.invoices.pay(self.invoice(), {"paid_out_of_band": True})

    def do_challenge(self):
        listed = self.api.v1.payment_intents.list({"customer": self.payer}).data
        waiting = [one.id for one in listed if one.status == "requires_action"]
        if waiting:
            passed = self.flag()
            self.app.transact(
                lambda context: hosted.authenticate(context, waiting[0], passed=passed)
            )

    def do_credit(self):
        invoice = self.api.v1.invoices.retrieve(self.invoice())
        amount = max(1, self.pick(1, 100, invoice.total))
        note: Any = {"invoice": invoice.id, "amount": amount}
        if invoice.status == "paid":
            note["credit_amount"] = amount
        self.api.v1.credit_notes.create(note)

    def do_void(self):
        self.api.v1.invoices.void_invoice(self.invoice())

    def do_write_off(self):
        self.api.v1.invoices.mark_uncollectible(self.invoice())

    def do_delete_a_draft(self):
        self.api.v1.invoices.delete(self.invoice())

    def do_close_an_account(self):
        if self.random.random() < 0.1:
            self.api.v1.customers.delete(self.payer)

    def do_wait(self):
        self.app.advance(self.pick(1, 60, HOUR, DAY, 5 * DAY, 20 * DAY))


def due(app):
    """Return when something is due next, by the records themselves."""
    moments = (
        resource.timer.due_at(record)
        for kind, resource in REGISTRY.by_name.items()
        if resource.timer
        for record in app.store.scan(kind)
    )
    return min((at for at in moments if at is not None), default=None)


def moments(store):
    return [event["created"] for event in store.scan("event", newest_first=False)]


def wrong_payments(store):
    """Return the payment intents that do not fit their invoice or their charges."""
    paid: dict[str, list[int]] = {}
    for charge in store.scan("charge"):
        if charge["paid"]:
            paid.setdefault(charge["payment_intent"], []).append(charge["amount"])
    wrong = []
    for intent in store.scan("payment_intent"):
        invoice = store.get("invoice", intent["_invoice"])
        taken = paid.get(intent["id"], [])
        ended = {"paid": ("canceled", "succeeded"), "void": ("canceled",)}
        fits = (
            taken in ([], [invoice["amount_paid"]])
            and sum(taken) == intent["amount_received"]
            and (not taken or invoice["status"] == "paid")
            and intent["status"] in ended.get(invoice["status"], (intent["status"],))
        )
        wrong += [] if fits else [intent]
    return wrong


def what_follows(app):
    """Return the events of the next 70 days."""
    before = app.store.count("event")
    app.advance(70 * DAY)
    events = list(app.store.scan("event", newest_first=False))[before:]
    return [(event["type"], event["created"], event["_data"]) for event in events]


def restarted(state):
    """Return the account as another process would find it now."""
    copy = shutil.copy(state, state.with_name("copy.sqlite"))
    shutil.copy(f"{state}-wal", f"{copy}-wal")
    return StripeApp(state=copy)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_the_account_is_right(tmp_path, monkeypatch, seed):
    state = tmp_path / "stripe.sqlite"
    monkeypatch.setattr("sandbox.stripe.clock.time.time", lambda: 1_800_000_000)
    history = History(seed, state)
    app = history.app

    for _ in range(60):
        history.step()

        assert books.audit(app.store) == []
        assert app.scheduler.next_at() == due(app)
        assert due(app) is None or due(app) >= app.clock.now()

    assert moments(app.store) == sorted(moments(app.store))
    assert wrong_payments(app.store) == []
    again = restarted(state)
    again.ids.restore(app.ids.state())
    assert dump_json(again.store.dump()) == dump_json(app.store.dump())
    assert what_follows(again) == what_follows(app)
    app.close()
    again.close()
