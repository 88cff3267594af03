"""Changes by staff, banks and card networks to the objects of a case."""

from collections.abc import Callable
from typing import Any

from billing.tests.support.event_matrix.cases import Event
from relays.models import Plan
from sandbox.stripe.client.in_process import in_process_client
from sandbox.stripe.client.testing import Sandbox
from sandbox.stripe.objects.payments import payment_methods
from sandbox.stripe.objects.reversals import disputes, fraud_warnings
from sandbox.stripe.store.records import Record
from sandbox.tests.support.stripe.builders import intent_of

#: Amount of a credit note by staff, in cents.
NOTE = 20

#: An event's object and its `previous_attributes`.
Objects = tuple[dict[str, Any], dict[str, Any] | None]


class Outside:
    """Changes at Stripe that no request of Caravel makes; each is made once."""

    def __init__(
        self, sandbox: Sandbox, invoice: str, subscription: str, customer: str
    ) -> None:
        self._sandbox = sandbox
        self._api = in_process_client(sandbox.app)
        self._invoice, self._subscription = invoice, subscription
        self._customer = customer

    def apply(self, event: Event, card: str) -> None:
        """Make the change that an event reports."""
        changes: dict[Event, Callable[[], object]] = {
            Event.EDITED: self._edit,
            Event.FINALIZATION_FAILED: self._refuse_finalization,
            Event.NOTED: self._note,
            Event.REFUND_CREATED: self._refund,
            Event.REFUNDED: self._refund,
            Event.DISPUTED: self._dispute,
            Event.DISPUTE_WON: self._win,
            Event.WARNED: self._warn,
            Event.CUSTOMER_UPDATED: lambda: self._make_default(card),
            Event.REISSUED: lambda: self._act(
                payment_methods.reissue, card, "pm_card_mastercard"
            ),
            Event.PAUSED: self._pause,
            Event.RESUMED: self._resume,
            Event.PRICE_UPDATED: self._archive_price,
        }
        changes[event]()

    def event_objects(self, event: Event, card: str) -> Objects:
        """Return the object of an event, as Stripe sends it."""
        customer = {"customer": self._customer}
        if event in {Event.CUSTOMER_UPDATED}:
            settings = {"invoice_settings": {"default_payment_method": None}}
            return self._serialized("customer", self._customer), settings
        if event == Event.REISSUED:
            previous = {"card": {"last4": "4242", "fingerprint": "before"}}
            return {"id": card, "object": "payment_method", **customer}, previous
        kinds: dict[Event, Callable[[], dict[str, Any]]] = {
            Event.EDITED: lambda: self._serialized("invoice", self._invoice),
            Event.NOTED: lambda: self._newest("credit_note"),
            Event.REFUND_CREATED: lambda: self._newest("refund"),
            Event.REFUNDED: lambda: self._serialized("charge", self._charge()["id"]),
            Event.DISPUTED: lambda: self._newest("dispute"),
            Event.DISPUTE_WON: lambda: self._newest("dispute"),
            Event.WARNED: lambda: self._newest("radar.early_fraud_warning"),
            Event.PRICE_UPDATED: lambda: self._serialized("price", self._price()),
        }
        if event in kinds:
            return kinds[event](), None
        return self._serialized("subscription", self._subscription), None

    # --- changes

    def _edit(self) -> None:
        """Hold a draft back; of a finalized invoice, change the metadata."""
        draft = self._record("invoice", self._invoice)["status"] == "draft"
        metadata: Any = {"metadata": {"note": "seen by staff"}}
        hold: Any = {"auto_advance": False}
        self._api.v1.invoices.update(self._invoice, hold if draft else metadata)

    def _refuse_finalization(self) -> None:
        code = "customer_tax_location_invalid"
        refusal: Any = {"metadata": {"sandbox_finalization": code}}
        self._api.v1.customers.update(self._customer, refusal)

    def _note(self) -> None:
        note: Any = {"invoice": self._invoice, "amount": NOTE}
        if self._record("invoice", self._invoice)["status"] == "paid":
            note["credit_amount"] = NOTE
        self._api.v1.credit_notes.create(note)

    def _refund(self) -> None:
        if not self._charge()["refunded"]:
            self._api.v1.refunds.create({"charge": self._charge()["id"]})

    def _dispute(self) -> None:
        if not self._charge()["disputed"]:
            self._act(disputes.open_dispute, self._charge())

    def _win(self) -> None:
        self._dispute()
        self._act(disputes.close, self._newest("dispute")["id"], "won")

    def _warn(self) -> None:
        self._act(fraud_warnings.issue, self._charge())

    def _make_default(self, card: str) -> None:
        settings: Any = {"invoice_settings": {"default_payment_method": card}}
        self._api.v1.customers.update(self._customer, settings)

    def _pause(self) -> None:
        """Pause the subscription, which only automatic collection allows."""
        automatic: Any = {"collection_method": "charge_automatically"}
        nothing: Any = {"bill_for": {"unused_time_from": {"type": "none"}}}
        self._api.v1.subscriptions.update(self._subscription, automatic)
        self._api.v1.subscriptions.pause(self._subscription, nothing)

    def _resume(self) -> None:
        anchor: Any = {"billing_cycle_anchor": {"type": "unchanged"}}
        if self._record("subscription", self._subscription)["status"] != "paused":
            self._pause()
        self._api.v1.subscriptions.resume(self._subscription, anchor)

    def _archive_price(self) -> None:
        self._api.v1.prices.update(self._price(), {"active": False})

    # --- objects

    def _act(self, work: Callable[..., Record], *args: Any) -> None:
        self._sandbox.app.transact(lambda context: work(context, *args))

    def _price(self) -> str:
        return str(Plan.objects.get(pk="basic").stripe_price_id)

    def _charge(self) -> Record:
        return self._record("charge", intent_of(self._api, self._invoice).latest_charge)

    def _record(self, kind: str, id: str) -> Record:
        record = self._sandbox.app.store.get(kind, id)
        assert record is not None
        return record

    def _newest(self, kind: str) -> dict[str, Any]:
        return self._serialized(kind, next(self._sandbox.app.store.scan(kind))["id"])

    def _serialized(self, kind: str, id: str) -> dict[str, Any]:
        serialized: dict[str, Any] = self._sandbox.app.transact(
            lambda context: context.serialize(context.get(kind, id))
        )
        return serialized
