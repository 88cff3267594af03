"""Cards that change: another default, another number, a declined one that recovers."""

from typing import Any

from billing.tests.support.simulation.actions import Payer
from billing.tests.support.simulation.staff.objects import (
    StaffAction,
    of_payer,
    pick,
    request,
    transact,
)
from billing.tests.support.simulation.system import System
from sandbox.stripe.objects.payments import payment_methods
from sandbox.stripe.objects.portal import hosted_actions

CARDS = (
    "pm_card_visa",
    "pm_card_chargeCustomerFailLostCard",
    "pm_card_createDispute",
    "pm_card_createIssuerFraudRecord",
)


def add_card_in_portal(system: System, payer: Payer, variant: int) -> None:
    """Add a card, which becomes the default."""
    customer = payer.tenant.stripe_customer_id
    if customer:
        transact(system, hosted_actions.add_card, customer, CARDS[variant])


def choose_default_card(system: System, payer: Payer, variant: int) -> None:
    """Make one of the customer's cards the default."""
    for card in pick(of_payer(system, payer, "payment_method"), variant):
        settings: Any = {"invoice_settings": {"default_payment_method": card["id"]}}
        request(system.api.v1.customers.update, card["customer"], settings)


def reissue_card(system: System, payer: Payer, variant: int) -> None:
    """Replace a card in place, as the network does."""
    for card in pick(of_payer(system, payer, "payment_method"), variant):
        transact(system, payment_methods.reissue, card["id"], CARDS[0])


ACTIONS: tuple[StaffAction, ...] = (
    add_card_in_portal,
    choose_default_card,
    reissue_card,
)
