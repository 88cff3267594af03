"""Consistency of invoices, credit notes and balances over random histories."""

import pytest
import stripe
from hypothesis import given, settings
from hypothesis import strategies as st

from caravel.tests.support import search
from sandbox.stripe.app import StripeApp
from sandbox.stripe.client.in_process import in_process_client
from sandbox.stripe.objects.reversals import disputes
from sandbox.tests.support.stripe import audit, builders
from sandbox.tests.support.stripe.builders import DAY

INDEXES = st.integers(0, 5)
PERCENT = st.sampled_from([1, 30, 60, 100, 100, 101])
STEPS = st.one_of(
    st.tuples(st.just("bill"), st.integers(-800, 2_500)),
    st.tuples(st.just("credit_note"), INDEXES, PERCENT, st.integers(0, 100)),
    st.tuples(st.just("void_note"), INDEXES),
    st.tuples(st.just("pay"), INDEXES),
    st.tuples(st.just("void"), INDEXES),
    st.tuples(st.just("mark_uncollectible"), INDEXES),
    st.tuples(st.just("adjust"), st.integers(-1_500, 1_500)),
    st.tuples(st.just("quantity"), st.integers(1, 4)),
    st.tuples(st.just("price"), st.integers(1, 100), st.integers(0, 25)),
    st.tuples(st.just("wait"), st.integers(1, 40 * DAY)),
)


class Account:
    """Customer with a subscription, and actions on its invoices."""

    def __init__(self) -> None:
        self.app = StripeApp(seed=1)
        self.api = in_process_client(self.app)
        self.payer = builders.customer(self.api).id
        self.subscription = builders.subscription(
            self.api,
            builders.price(self.api, 333),
            to=self.api.v1.customers.retrieve(self.payer),
            default_tax_rates=[builders.tax_rate(self.api, 20).id],
            discounts=[{"coupon": builders.coupon(self.api, percent_off=12.5).id}],
        )

    def run(self, action, *args):
        try:
            getattr(self, action)(*args)
        except stripe.InvalidRequestError as error:
            # Invalid actions are rejected with a 400.
            assert error.http_status == 400
        assert audit.audit(self.app.store) == []

    def select_invoice(self, number, *statuses):
        """Return an invoice with one of the statuses, or any invoice."""
        invoices = self.api.v1.invoices.list({"limit": 20}).data
        matching = [
            invoice for invoice in invoices if invoice.status in statuses
        ] or invoices
        return matching[number % len(matching)]

    def bill(self, amount):
        self.api.v1.invoice_items.create(
            {"customer": self.payer, "amount": amount, "currency": "usd"}
        )
        draft = self.api.v1.invoices.create(
            {"customer": self.payer, "pending_invoice_items_behavior": "include"}
        )
        self.api.v1.invoices.finalize_invoice(draft.id)

    def credit_note(self, number, percent, to_balance):
        invoice = self.select_invoice(number, "open", "paid")
        remaining = invoice.amount_remaining if invoice.status == "open" else 0
        amount = max(1, self.creditable(invoice) * percent // 100)
        refunded = max(0, amount - remaining)
        credit = refunded * to_balance // 100
        self.api.v1.credit_notes.create(
            {
                "invoice": invoice.id,
                "amount": amount,
                "credit_amount": credit,
                "out_of_band_amount": refunded - credit,
            }
        )

    def creditable(self, invoice):
        return (
            invoice.total
            - invoice.pre_payment_credit_notes_amount
            - invoice.post_payment_credit_notes_amount
        )

    def void_note(self, number):
        notes = self.api.v1.credit_notes.list({"limit": 20}).data
        issued = [note for note in notes if note.status == "issued"]
        if issued:
            self.api.v1.credit_notes.void_credit_note(issued[number % len(issued)].id)

    def pay(self, number):
        invoice = self.select_invoice(number, "open", "uncollectible")
        self.api.v1.invoices.pay(invoice.id, {"paid_out_of_band": True})

    def void(self, number):
        invoice = self.select_invoice(number, "open", "uncollectible")
        self.api.v1.invoices.void_invoice(invoice.id)

    def mark_uncollectible(self, number):
        self.api.v1.invoices.mark_uncollectible(self.select_invoice(number, "open").id)

    def adjust(self, amount):
        self.api.v1.customers.balance_transactions.create(
            self.payer, {"amount": amount, "currency": "usd"}
        )

    def quantity(self, quantity):
        item = self.subscription.items.data[0].id
        self.api.v1.subscriptions.update(
            self.subscription.id, {"items": [{"id": item, "quantity": quantity}]}
        )

    def price(self, percent_off, tax):
        coupon = builders.coupon(self.api, percent_off=percent_off)
        rate = builders.tax_rate(self.api, tax, inclusive=tax % 2 == 1)
        self.api.v1.subscriptions.update(
            self.subscription.id,
            {"discounts": [{"coupon": coupon.id}], "default_tax_rates": [rate.id]},
        )

    def wait(self, seconds):
        self.app.advance(seconds)


@pytest.mark.search
@settings(max_examples=search.examples(60), deadline=None)
@given(st.lists(STEPS, max_size=14))
def test_random_histories_keep_amounts_consistent(steps):
    account = Account()

    for action, *args in steps:
        account.run(action, *args)


INCONSISTENCIES = [
    ("invoice", {"amount_due": 1}),
    ("invoice", {"amount_paid": 1}),
    ("invoice", {"status": "paid"}),
    ("invoice", {"status": "void"}),
    ("invoice", {"total": 1}),
    ("invoice", {"subtotal": 1}),
    ("invoice", {"total_excluding_tax": 1}),
    ("invoice", {"total_discount_amounts": []}),
    ("invoice", {"total_taxes": []}),
    ("invoice", {"ending_balance": -1, "amount_due": 135, "amount_remaining": 135}),
    ("invoice", {"pre_payment_credit_notes_amount": 0}),
    ("invoiceitem", {"amount": 1}),
    ("invoiceitem", {"invoice": None}),
    ("discount", {"_coupon": {"duration": "once"}}),
    ("dispute", {"amount": 1}),
    ("dispute", {"status": "won"}),
    ("credit_note", {"total": 1}),
    ("credit_note", {"subtotal": 1}),
    ("credit_note", {"total_taxes": []}),
    ("credit_note", {"status": "void"}),
    ("credit_note", {"out_of_band_amount": 1}),
    ("charge", {"amount_captured": 0}),
    ("charge", {"amount_refunded": 1}),
    ("charge", {"disputed": False}),
    ("charge", {"refunded": True}),
    ("customer", {"balance": 1}),
    ("customer_balance_transaction", {"amount": 1}),
]


@pytest.mark.parametrize(("kind", "changes"), INCONSISTENCIES)
def test_audit_reports_each_kind_of_inconsistency(kind, changes):
    account = Account()
    account.adjust(-100)
    builders.first_invoice(account.api, account.subscription)
    account.credit_note(0, 30, 100)
    account.bill(500)
    builders.automatic(
        account.api, to=builders.paying_customer(account.api)[0], amount=400
    )
    charge = account.api.v1.charges.list().data[0].id
    account.api.v1.refunds.create({"charge": charge, "amount": 2})
    account.app.transact(
        lambda context: disputes.open_dispute(context, context.get("charge", charge))
    )
    store = account.app.store
    before = audit.audit(store)

    changed = {**next(store.scan(kind, newest_first=False)), **changes}
    store.put(kind, changed)

    assert before == []
    assert audit.audit(store)
