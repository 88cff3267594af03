"""A tenant, and the times between its actions and their effects. Needs Django."""

import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import requests
import stripe
from django.conf import settings

from billing.models import InvoiceCollection, StripeEvent
from billing.services.invoices.payment_link import payment_url
from relays.models import Relay
from sandbox.demo.readiness import NotReady
from sandbox.demo.scenario import ANONYMOUS_WALLET, Demo, DemoTenant
from sandbox.demo.tenant_client import PaymentPage, request

#: Seconds between two looks, and after which an effect counts as missing.
POLL, TIMEOUT = 0.01, 120.0
_SATS = 200_000
_numbers = count(1)


class Account:
    """A tenant with one relay; methods that measure return seconds."""

    def __init__(self, demo: Demo) -> None:
        self._demo = demo
        self.tenant = DemoTenant(f"bench{next(_numbers)}", ("basic",))
        self._stripe = requests.Session()
        self._stripe.auth = (settings.STRIPE_SECRET_KEY, "")

    def sign_up(self) -> None:
        """Register the tenant with its relay, which Caravel bills at once."""
        self._demo.sign_up(self.tenant)

    @property
    def is_billed(self) -> bool:
        """Return whether the first invoice waits for a payment by hand."""
        waiting = self._collections().filter(state=InvoiceCollection.State.MANUAL)
        return bool(waiting.filter(stripe_status="open").exists())

    @property
    def invoice_id(self) -> str:
        """The id of the first invoice."""
        return str(self._collections().earliest("created_at").pk)

    def fetch_event(self) -> dict[str, Any]:
        """Fetch the event that Stripe sent when it finalized the first invoice."""
        events = self._get("/v1/events?type=invoice.finalized&limit=100")["data"]
        (event,) = (e for e in events if e["data"]["object"]["id"] == self.invoice_id)
        return dict(event)

    def change_plan(self) -> float:
        """Change the relay's plan: from the response to the change at Stripe."""
        relay = Relay.objects.get(tenant=self.tenant.pubkey)
        plan = "growth" if relay.plan_id == "basic" else "basic"
        before = self._price()
        path = f"/api/relays/{relay.pk}"
        request(self.tenant.secret_key, "PATCH", path, {"plan": plan})
        return seconds_until(lambda: self._price() != before)

    def press_pay(self) -> float:
        """Press «Pay with Lightning»: from the click to the page with a bolt11."""
        page = PaymentPage(payment_url(self._collections().get(pk=self.invoice_id)))
        started = time.perf_counter()
        self._bolt11 = page.press_pay()
        return time.perf_counter() - started

    def pay(self) -> float:
        """Pay the bolt11 of the page: from its settlement to `paid` at Stripe."""
        path = f"wallets/{ANONYMOUS_WALLET}/pay"
        self._demo.lightning.post(path, bolt11=self._bolt11)
        return seconds_until(self._is_paid)

    def connect_wallet(self) -> float:
        """Connect a wallet, which pays: from its debit to `paid` at Stripe."""
        wallet = self._demo.lightning.post(
            "wallets", name=self.tenant.wallet, sats=_SATS
        )
        with ThreadPoolExecutor(1) as pool:
            connected = pool.submit(self._connect, wallet["url"])
            # The wallet pays before or after the response, so look at it meanwhile.
            seconds_until(lambda: connected.done() or self._is_debited())
            seconds_until(self._is_debited)
            seconds = seconds_until(self._is_paid)
            connected.result()
        return seconds

    def _connect(self, url: str) -> None:
        path = f"/api/tenants/{self.tenant.pubkey}"
        request(self.tenant.secret_key, "PATCH", path, {"nwc_url": url})

    def _is_debited(self) -> bool:
        wallet = self._demo.lightning.get(f"wallets/{self.tenant.wallet}")
        return bool(wallet["balance_msat"] < _SATS * 1_000)

    def _collections(self) -> Any:
        return InvoiceCollection.objects.filter(tenant=self.tenant.pubkey)

    def _is_paid(self) -> bool:
        return bool(self._get(f"/v1/invoices/{self.invoice_id}")["status"] == "paid")

    def _price(self) -> str:
        path = f"/v1/subscriptions?customer={self.tenant.customer}"
        (subscription,) = self._get(path)["data"]
        return str(subscription["items"]["data"][0]["price"]["id"])

    def _get(self, path: str) -> Any:
        response = self._stripe.get(settings.STRIPE_API_BASE + path, timeout=TIMEOUT)
        response.raise_for_status()
        return response.json()


def receive(event: Mapping[str, Any]) -> float:
    """Post an event like Stripe: from the request to the end of its effect.

    The effect's transaction also marks the event processed.
    """
    event_id = f"evt_bench{time.time_ns()}"
    started = time.time()
    post_event({**event, "id": event_id})
    rows = StripeEvent.objects.filter(pk=event_id, processed_at__isnull=False)
    seconds_until(rows.exists)
    (processed_at,) = rows.values_list("processed_at", flat=True)
    return float(processed_at.timestamp() - started)


def post_event(event: Mapping[str, Any]) -> None:
    """Post a signed event to the webhook. Raises requests.RequestException."""
    body = json.dumps(event)
    (secret, *_) = settings.STRIPE_WEBHOOK_SECRETS
    signature = stripe.WebhookSignature.generate_signature_header(body, secret)
    headers = {"Stripe-Signature": signature, "Content-Type": "application/json"}
    url = f"{settings.APP_URL}/stripe/webhook"
    response = requests.post(url, body.encode(), headers=headers, timeout=TIMEOUT)
    response.raise_for_status()


def seconds_until(condition: Callable[[], object]) -> float:
    """Look again and again until the condition is true. Raises NotReady."""
    started = time.perf_counter()
    while not condition():
        if time.perf_counter() - started > TIMEOUT:
            raise NotReady(f"An effect did not come within {TIMEOUT:.0f} seconds.")
        time.sleep(POLL)
    return time.perf_counter() - started
