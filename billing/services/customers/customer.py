"""A tenant's customer at Stripe: created on first need, replaced after a deletion."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction

from billing.clients.stripe.client import Customer, Stripe
from billing.clients.stripe.errors import StripeRefused
from billing.exceptions import CustomerBeingCreated, CustomerGone
from billing.models import StripeWrite, SubscriptionSync
from billing.services.invoices.ownership import TENANT_KEY
from billing.services.stripe_writes import writes
from billing.services.stripe_writes.cancellations import record_external_end
from billing.services.stripe_writes.writes import Write
from caravel.core.alerts import alert_support
from caravel.nostr import short_npub
from tenants.models import Tenant

logger = structlog.get_logger(__name__)


class CreateCustomer(Write[Customer]):
    """Create a tenant's customer, or adopt the one that an interrupted try created.

    Its id is also set on `tenant`.
    """

    kind = StripeWrite.Kind.CREATE_CUSTOMER

    def __init__(
        self, stripe: Stripe, tenant: Tenant, *, email: str | None = None
    ) -> None:
        super().__init__(subject=tenant.pk, tenant_id=tenant.pk)
        self._stripe = stripe
        self._tenant = tenant
        self._email = email or customer_email(tenant)

    def params(self, key: str) -> dict[str, Any]:
        metadata = {TENANT_KEY: self._tenant.pubkey}
        return {**_details(self._tenant), "email": self._email, "metadata": metadata}

    def send(self, params: dict[str, Any], key: str) -> Customer:
        return self._stripe.customers.create(params, key)

    def find(self, write: StripeWrite) -> Customer | None:
        # Lists are exact at once; Stripe's search may lag by minutes:
        # https://docs.stripe.com/search#data-freshness
        for customer in self._stripe.customers.list(email=write.params["email"]):
            if customer.metadata.get(TENANT_KEY) == write.subject:
                return customer
        return None

    def save(self, resource: Customer) -> None:
        Tenant.objects.filter(pk=self._tenant.pk).update(stripe_customer_id=resource.id)
        self._tenant.stripe_customer_id = resource.id
        _save_given(self._tenant, {"name": resource.name, "email": resource.email})

    def check_allowed(self) -> None:
        """Lock the tenant. Raises CustomerBeingCreated if another process was first."""
        locked = Tenant.objects.lock(self._tenant.pk)
        if locked.stripe_customer_id or self.pending():
            raise CustomerBeingCreated("The tenant's customer is being created.")


def ensure_customer(stripe: Stripe, tenant: Tenant) -> str:
    """Return the id of the tenant's customer, and set it on `tenant`.

    The customer is created on first need, once for any number of concurrent calls.
    """
    if tenant.stripe_customer_id:
        return tenant.stripe_customer_id
    try:
        return _create(stripe, tenant)
    except CustomerBeingCreated:
        tenant.refresh_from_db(fields=["stripe_customer_id"])
        return tenant.stripe_customer_id or _create(stripe, tenant)


def update_customer(stripe: Stripe, tenant: Tenant) -> None:
    """Send the tenant's name and e-mail address to Stripe if they changed here.

    What staff edited at Stripe stays until it changes here. A refusal is only logged:
    billing must go on. Raises CustomerGone or another StripeError.
    """
    wanted, given = _details(tenant), _given(tenant)
    if wanted == given:
        return
    customer = stripe.customers.get(str(tenant.stripe_customer_id))
    if customer.deleted:
        raise CustomerGone("The customer was deleted at Stripe.")
    known = {"name": customer.name, "email": customer.email}
    changed = {
        name: value
        for name, value in wanted.items()
        if value not in (given[name], known[name])
    }
    try:
        if changed:
            _send_details(stripe, tenant, changed)
    except StripeRefused as exc:
        alert_support("stripe_refused_customer_details", exc.message, tenant=tenant.pk)
    _save_given(tenant, wanted)


def is_gone(stripe: Stripe, customer_id: str) -> bool:
    """Return whether the customer was deleted at Stripe: only its tombstone says so.

    Raises StripeNotFound if the account never had it.
    """
    return stripe.customers.get(customer_id).deleted


@contextmanager
def detect_deleted_customer(
    stripe: Stripe, customer_id: str, *, param: str | None = "customer"
) -> Iterator[None]:
    """Raise CustomerGone instead of StripeRefused if the customer was deleted.

    Only a refusal that names `param` leads to a look at the customer; None stands for
    any refusal, for requests that have the customer in their path.
    """
    try:
        yield
    except StripeRefused as exc:
        is_about_customer = param is None or param == exc.param
        if is_about_customer and is_gone(stripe, customer_id):
            raise CustomerGone("The customer was deleted at Stripe.") from exc
        raise


def clear_customer(tenant: Tenant) -> None:
    """Clear the ids of a deleted customer, so that the next sync creates another."""
    logger.warning("stripe_customer_deleted", customer=tenant.stripe_customer_id)
    rows = Tenant.objects.filter(pk=tenant.pk)
    with transaction.atomic():
        if tenant.stripe_subscription_id:
            # Stripe cancels a customer's subscriptions when it is deleted:
            # https://docs.stripe.com/api/customers/delete
            record_external_end(
                tenant_id=tenant.pk, subscription_id=tenant.stripe_subscription_id
            )
        rows.filter(stripe_customer_id=tenant.stripe_customer_id).update(
            stripe_customer_id=None, stripe_subscription_id=None
        )
        # Pending creates belong to the deleted customer.
        for write in StripeWrite.objects.of(
            StripeWrite.Kind.CREATE_SUBSCRIPTION, tenant.pk
        ).pending():
            writes.mark_abandoned(write)


def customer_email(tenant: Tenant) -> str:
    """Return the e-mail address that Stripe requires for `send_invoice`.

    Stripe writes to it as well, so it must be one whose owner has confirmed it.
    """
    return tenant.mail_address or placeholder_email(tenant)


def placeholder_email(tenant: Tenant) -> str:
    """Return an address in the operator's domain that has no mailbox behind it."""
    return f"{tenant.npub}@{settings.BILLING_EMAIL_DOMAIN}"


def _details(tenant: Tenant) -> dict[str, str]:
    name = tenant.display_name or short_npub(tenant.pubkey)
    return {"name": name, "email": customer_email(tenant)}


def _given(tenant: Tenant) -> dict[str, str]:
    row = SubscriptionSync.objects.filter(pk=tenant.pk).first() or SubscriptionSync()
    return {"name": row.customer_name, "email": row.customer_email}


def _save_given(tenant: Tenant, details: Mapping[str, str]) -> None:
    columns = {f"customer_{name}": value for name, value in details.items()}
    SubscriptionSync.objects.update_or_create(tenant_id=tenant.pk, defaults=columns)


def _send_details(stripe: Stripe, tenant: Tenant, changed: Mapping[str, str]) -> None:
    customer = str(tenant.stripe_customer_id)
    try:
        stripe.customers.update(customer, changed)
    except StripeRefused as exc:
        if exc.param != "email" or not tenant.mail_address:
            raise
        logger.warning("stripe_refused_email", error=exc.message)
        placeholder = {**changed, "email": placeholder_email(tenant)}
        stripe.customers.update(customer, placeholder)


def _create(stripe: Stripe, tenant: Tenant) -> str:
    try:
        return CreateCustomer(stripe, tenant).run().id
    except StripeRefused as exc:
        if exc.param != "email" or not tenant.mail_address:
            raise
        # Billing must go on although Stripe rejects the tenant's own address.
        logger.warning("stripe_refused_email", error=exc.message)
        placeholder = placeholder_email(tenant)
        created = CreateCustomer(stripe, tenant, email=placeholder).run()
        # The refused address is not sent again until it changes.
        _save_given(tenant, _details(tenant))
        return created.id
