"""Wallets as they really are, with a card on file: what is captured, and by whom.

Each test plays the whole system: a Stripe invoice, the tenant's wallet and card, and
our own wallet. Sums come from the charges at Stripe and the ledger of the wallets.
"""

from dataclasses import replace
from datetime import timedelta

import pytest
from django.core import mail
from django.utils import timezone

from billing.models import Credit, InvoiceCollection, Settlement
from billing.services.payment_page.bolt11 import get_or_issue_bolt11
from billing.tests.support.simulation.actions import Actions, Payer
from billing.tests.support.simulation.balances import (
    captured_by_card,
    captured_by_lightning,
    tenant_invoices,
)
from billing.tests.support.simulation.invariants import final_faults
from billing.tests.support.simulation.real_wallets import (
    decide_contradictions,
    meet_contradiction,
)
from billing.tests.support.simulation.system import System
from lightning.exceptions import NotResolvable, PaymentInProgress
from lightning.models import LightningInvoice, NwcPayment, Resolution, WalletProof
from lightning.tests.factories import make_invoices
from lightning.tests.support.decisions import decide
from sandbox.wallets import Wallet
from sandbox.wallets.behaviour import (
    PAYS,
    Amounts,
    LookupBehaviour,
    Network,
    PaymentBehaviour,
    Protocol,
    Times,
    pays_but_says,
    refuses,
    settles_late,
)
from tenants.models import Activity

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

SUPPORT = "support@example.com"
PRICE = 500
#: After this no payment of a Lightning invoice is pending: expiry, margin, a round.
SETTLING_TIME = timedelta(hours=4)
LNBITS = LookupBehaviour(with_state=False, settles_expired=True)


@pytest.fixture(autouse=True)
def real_settings(servers, settings):
    settings.SUPPORT_EMAIL, settings.EMAIL_ENABLED = SUPPORT, True
    settings.LIGHTNING_REFUSAL_PAUSE = 60
    # A slow machine must not miss a reply.
    settings.NWC_TIMEOUT = 10


@pytest.fixture
def system(servers, own_wallet):
    with System(servers) as system:
        yield system
    own_wallet.lookup_behaviour = LookupBehaviour()
    own_wallet.protocol = Protocol()
    own_wallet.connection.deny([])


@pytest.fixture
def actions(system) -> Actions:
    return Actions(system)


def captured(system: System) -> tuple[int, int]:
    """Return the amounts captured by card and by Lightning, for all invoices."""
    ids = [invoice["id"] for invoice in tenant_invoices(system)]
    return (
        sum(captured_by_card(system, id) for id in ids),
        sum(captured_by_lightning(system, id) for id in ids),
    )


def paid_by() -> list[str]:
    rows = InvoiceCollection.objects.order_by("created_at")
    return list(rows.values_list("paid_by", flat=True))


def subjects_to_support() -> list[str]:
    return [str(sent.subject) for sent in mail.outbox if SUPPORT in sent.to]


def add_payer(actions: Actions, wallet: PaymentBehaviour | None = None) -> Payer:
    """Add a tenant with a good card, and have its first invoice collected."""
    payer = actions.add_tenant(wallet=wallet, card="pm_card_visa")
    actions.system.run()
    return payer


# --- 1: unpaid counts as paid


def test_expired_invoice_with_a_settlement_time_is_not_paid(
    system, actions, own_wallet
):
    """As LNbits answers, without `state`, from when it was updated one day."""
    payer = actions.add_tenant()
    system.run()
    actions.request_bolt11(payer.unpaid[0].pk)
    own_wallet.lookup_behaviour = LNBITS

    system.advance(SETTLING_TIME)

    assert captured(system) == (0, 0)
    assert paid_by() == [""]
    assert not Settlement.objects.exists()


# --- 2: cannot read is taken for no


@pytest.mark.parametrize(
    "answers",
    [
        LookupBehaviour(with_state=False, times=Times.FLOATS),
        LookupBehaviour(with_state=False, times=Times.TEXT, amounts=Amounts.TEXT),
        LookupBehaviour(times=Times.MILLISECONDS, shows_preimage=True),
    ],
    ids=["floats", "texts", "milliseconds"],
)
def test_payment_that_arrived_is_booked_in_any_notation(
    system, actions, own_wallet, answers
):
    own_wallet.lookup_behaviour = answers
    add_payer(actions, PAYS)

    system.advance(SETTLING_TIME)

    assert captured(system) == (0, PRICE)
    assert paid_by() == ["wallet"]
    assert final_faults(system) == []


def test_absurd_amount_settles_the_invoice_and_alerts_support_without_a_credit(
    system, actions, own_wallet
):
    own_wallet.lookup_behaviour = LookupBehaviour(amounts=Amounts.ABSURD)
    add_payer(actions, PAYS)

    system.advance(SETTLING_TIME)

    assert captured(system) == (0, PRICE)
    assert paid_by() == ["wallet"]
    assert not Credit.objects.exists()
    assert subjects_to_support()
    assert final_faults(system) == []


def test_unreadable_answers_end_no_watch(system, actions, own_wallet):
    """Days later the wallet is repaired: the payment counts, not the card."""
    own_wallet.lookup_behaviour = LookupBehaviour(wrong_hash=True)
    add_payer(actions, pays_but_says("INTERNAL"))
    system.advance(timedelta(days=2))
    assert LightningInvoice.objects.watched().count() == 1
    assert captured(system)[0] == 0

    own_wallet.lookup_behaviour = LookupBehaviour()
    system.recover()

    assert captured(system) == (0, PRICE)
    assert paid_by() == ["wallet"]
    assert final_faults(system) == []


# --- 3: the payer's proof is thrown away


def test_payers_proof_settles_the_invoice_if_our_wallet_never_shows_it(
    system, actions, own_wallet
):
    own_wallet.lookup_behaviour = LookupBehaviour(never_settled=True)
    add_payer(actions, PAYS)
    payment = NwcPayment.objects.get()
    assert payment.preimage
    assert payment.proven_at
    assert captured(system)[0] == 0

    system.advance(SETTLING_TIME)

    assert captured(system) == (0, PRICE)
    assert paid_by() == ["wallet"]
    assert subjects_to_support()
    system.advance(timedelta(days=8))
    assert captured(system) == (0, PRICE)


def test_payers_proof_is_shown_to_support_if_it_may_be_the_same_service(
    system, actions, own_wallet
):
    own_wallet.lookup_behaviour = LookupBehaviour(never_settled=True)
    payer = actions.add_tenant(card="pm_card_visa")
    system.stripe.pause_webhooks(True)
    connect_without_info(actions, payer)
    system.stripe.pause_webhooks(False)
    actions.collect_now(payer.unpaid[0].pk)
    system.run()

    system.advance(timedelta(days=9))

    assert captured(system) == (0, PRICE)
    invoice = LightningInvoice.objects.get()
    assert invoice.contradicted_at
    assert invoice.payment.preimage
    assert subjects_to_support()
    assert {relay.status for relay in payer.relays} == {"active"}

    decide_contradicted("settled")
    system.advance(timedelta(days=9))

    assert captured(system) == (0, PRICE)
    assert paid_by() == ["wallet"]
    assert {relay.status for relay in payer.relays} == {"active"}
    decision = Resolution.objects.get()
    assert "preimage" in decision.payer_answer
    assert (
        "pending" in decision.receiver_answer or "expired" in decision.receiver_answer
    )
    assert Activity.objects.filter(type=Activity.Type.RESOLVE_INVOICE).count() == 1


def decide_contradicted(outcome: str) -> None:
    """Decide the only contradicted invoice, as support."""
    invoice = LightningInvoice.objects.exclude(contradicted_at=None).get()
    decide(invoice.pk, Resolution.Outcome(outcome))


def connect_without_info(actions: Actions, payer: Payer) -> None:
    """Connect a wallet whose node is unknown, since it denies `get_info`."""
    actions.connect_wallet(payer, PAYS)
    payer.wallets[-1].connection.deny(["get_info"])


# --- 4: a refusal's name is trusted


@pytest.mark.parametrize("code", ["INSUFFICIENT_BALANCE", "RATE_LIMITED"])
def test_card_is_not_charged_for_a_refusal_that_pays_after_all(system, actions, code):
    add_payer(actions, settles_late(40, code))
    assert captured(system)[0] == 0

    system.advance(SETTLING_TIME)

    assert captured(system) == (0, PRICE)
    assert paid_by() == ["wallet"]
    assert final_faults(system) == []


def test_card_is_charged_once_after_a_true_refusal(system, actions):
    add_payer(actions, refuses("INSUFFICIENT_BALANCE"))
    assert captured(system) == (0, 0)

    system.advance(timedelta(minutes=10))

    assert captured(system) == (PRICE, 0)
    assert paid_by() == ["card"]
    system.recover()
    assert final_faults(system) == []


def test_card_is_charged_at_once_if_the_wallet_cannot_have_sent_anything(
    system, actions
):
    add_payer(actions, refuses("RESTRICTED"))

    assert captured(system) == (PRICE, 0)


def test_refusal_that_pays_after_the_card_becomes_credit(system, actions):
    """More than the pause: money that arrives late is not lost, but credited."""
    add_payer(actions, settles_late(1_800, "INSUFFICIENT_BALANCE"))
    system.advance(timedelta(minutes=10))
    assert captured(system) == (PRICE, 0)

    system.recover()

    assert captured(system) == (PRICE, PRICE)
    assert [credit.amount_cents for credit in Credit.objects.all()] == [PRICE]
    assert final_faults(system) == []


def test_card_waits_for_an_answer_of_our_own_wallet_after_a_refusal(
    system, actions, own_wallet
):
    own_wallet.lookup_behaviour = LookupBehaviour(error="INTERNAL")
    add_payer(actions, refuses("INSUFFICIENT_BALANCE"))
    system.advance(timedelta(hours=1))
    assert captured(system) == (0, 0)

    own_wallet.lookup_behaviour = LookupBehaviour()
    system.recover()

    assert captured(system) == (PRICE, 0)
    assert final_faults(system) == []


# --- 5: a contradiction is retried for ever


def test_list_of_transactions_ends_a_contradiction_by_itself(
    system, actions, own_wallet
):
    """Payer and receiver use one Alby Hub, and the payment has failed."""
    own_wallet.lookup_behaviour = LookupBehaviour(newest_record=True)
    add_payer(actions, refuses("PAYMENT_FAILED"))

    system.recover()

    assert captured(system) == (PRICE, 0)
    assert paid_by() == ["card"]
    assert final_faults(system) == []


def test_contradiction_without_a_list_waits_for_support(system, actions, own_wallet):
    own_wallet.lookup_behaviour = LookupBehaviour(newest_record=True)
    own_wallet.connection.deny(["list_transactions"])
    payer = add_payer(actions, refuses("PAYMENT_FAILED"))

    system.advance(timedelta(days=9))

    assert captured(system) == (0, 0)
    assert LightningInvoice.objects.get().contradicted_at
    assert subjects_to_support()
    assert {relay.status for relay in payer.relays} == {"active"}

    decide_contradicted("dead")
    system.recover()

    assert captured(system) == (PRICE, 0)
    assert paid_by() == ["card"]
    assert final_faults(system) == []


def test_click_during_a_contradiction_names_no_time_in_the_past(
    system, actions, own_wallet
):
    own_wallet.lookup_behaviour = LookupBehaviour(newest_record=True)
    own_wallet.connection.deny(["list_transactions"])
    payer = add_payer(actions, refuses("PAYMENT_FAILED"))

    for hours in (0, 1, 4, 50):
        system.advance(timedelta(hours=hours))
        with pytest.raises(PaymentInProgress) as refusal:
            get_or_issue_bolt11(invoice_id=payer.unpaid[0].pk)

        assert refusal.value.until is None or refusal.value.until > system.now


def test_support_cannot_declare_a_payment_dead_that_may_still_arrive(
    system, actions, own_wallet
):
    own_wallet.lookup_behaviour = LookupBehaviour(error="INTERNAL")
    add_payer(actions, refuses("INTERNAL"))
    invoice = LightningInvoice.objects.get()

    with pytest.raises(NotResolvable):
        decide(invoice.pk, Resolution.Outcome.DEAD)

    assert captured(system) == (0, 0)
    assert not Resolution.objects.exists()


@pytest.mark.parametrize("days", [0, 9])
@pytest.mark.parametrize("variant", range(4))
def test_every_contradiction_has_an_end_with_the_right_sums(
    system, actions, variant, days
):
    meet_contradiction(actions, variant, timedelta(days=days))
    system.recover()
    if decide_contradictions(system):
        system.recover()

    assert captured(system) in ((PRICE, 0), (0, PRICE))
    assert final_faults(system) == []


# --- 7: one clock, two tolerances


@pytest.mark.parametrize("skew", [-115, 115])
def test_wallet_pays_though_both_clocks_are_two_minutes_wrong(
    system, actions, own_wallet, skew
):
    own_wallet.protocol = replace(own_wallet.protocol, clock_skew=skew)
    payer = actions.add_tenant(card="pm_card_visa")
    actions.connect_wallet(payer, PAYS)
    payer.wallets[-1].protocol = Protocol(clock_skew=-skew)

    system.run()
    system.recover()

    assert captured(system) == (0, PRICE)
    assert paid_by() == ["wallet"]
    assert final_faults(system) == []


# --- 8: background work starves a person


def test_person_gets_a_bolt11_while_a_hundred_invoices_are_watched(
    system, actions, own_wallet, settings
):
    """Our wallet allows 60 requests a minute, as coinos does."""
    settings.ROBOT_WALLET_REQUESTS_PER_MINUTE = 60
    payer = actions.add_tenant()
    system.run()
    watch_invoices_of_others(own_wallet, payer, count=100)
    own_wallet.protocol = Protocol(requests_per_minute=60)

    for _ in range(4):
        system.advance(timedelta(seconds=15))
    bolt11 = get_or_issue_bolt11(invoice_id=payer.unpaid[0].pk)

    assert bolt11.state == LightningInvoice.State.OPEN
    assert own_wallet.rate_limited == 0


def watch_invoices_of_others(own_wallet: Wallet, payer: Payer, *, count: int) -> None:
    """Have our wallet issue invoices that were presented and are due to be polled."""
    issued = [own_wallet.issue(21_000_000, expiry=900) for _ in range(count)]
    rows = [
        {
            "bolt11": invoice.bolt11,
            "payment_hash": invoice.payment_hash,
            "shown_at": timezone.now(),
            "expires_at": timezone.now() + timedelta(seconds=900),
        }
        for invoice in issued
    ]
    make_invoices(payer.tenant, own_wallet.pubkey, rows)


# --- 10, and 1 again: a receiving wallet that must not be trusted


@pytest.mark.parametrize(
    ("network", "answers", "expected"),
    [
        (Network.MAINNET, LookupBehaviour(), "passed"),
        (
            Network.MAINNET,
            LookupBehaviour(with_state=False, shows_preimage=True),
            "passed",
        ),
        (Network.MAINNET, LNBITS, "failed"),
        (Network.MAINNET, replace(LNBITS, shows_preimage=True), "failed"),
        (Network.TESTNET, LookupBehaviour(), "failed"),
    ],
    ids=[
        "by the book",
        "nostr-wallet-connect-lnd",
        "LNbits",
        "LNbits with preimages",
        "testnet",
    ],
)
def test_production_issues_only_by_a_proven_wallet_on_mainnet(
    system, actions, own_wallet, settings, network, answers, expected
):
    settings.ROBOT_WALLET_ALLOW_UNPROVEN = False
    own_wallet.protocol = Protocol(network=network)
    own_wallet.lookup_behaviour = answers
    payer = actions.add_tenant()
    system.run()
    assert actions.request_bolt11(payer.unpaid[0].pk) is None

    for _ in range(4):
        system.advance(timedelta(minutes=30))
    bolt11 = actions.request_bolt11(payer.unpaid[0].pk)

    assert WalletProof.objects.get().state == expected
    assert (bolt11 is not None) == (expected == "passed")
    assert bool(subjects_to_support()) == (expected != "passed")
