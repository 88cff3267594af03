"""Proofs of our own wallets by an invoice that nobody pays."""

from datetime import timedelta
from io import StringIO
from unittest.mock import Mock, patch

import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.core.management.base import SystemCheckError
from django.utils import timezone

from caravel.tests.support.celery_tasks import run_each
from lightning.checks import check_proofs_are_required
from lightning.clients.nwc import Wallet
from lightning.exceptions import InvoiceMismatch, OwnWalletUnproven
from lightning.models import LightningInvoice, WalletProof
from lightning.services.wallet_proofs import advance_proof, due_wallets
from lightning.tasks import prove_wallet, prove_wallets
from lightning.tests.factories import make_payment_request, tenant_with
from lightning.tests.support.payments import get_or_issue_invoice, start_payment
from sandbox.wallets.behaviour import (
    InvoiceBehaviour,
    LookupBehaviour,
    Network,
    Protocol,
)
from tenants.tests.factories import TenantFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("own_wallet", "prices")]

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
State = WalletProof.State
COMMAND = "lightning.management.commands.prove_wallets"


@pytest.fixture
def clock():
    with time_machine.travel(timezone.now(), tick=True) as traveller:
        yield traveller


MAINNET = Protocol(network=Network.MAINNET)


@pytest.fixture
def production(settings, own_wallet):
    """The rules of production, and a wallet on mainnet."""
    settings.ROBOT_WALLET_ALLOW_UNPROVEN = False
    own_wallet.protocol = MAINNET


def prove(clock, pubkey, *, after=4 * MINUTE) -> WalletProof:
    """Start a proof, and take the next step after a time."""
    advance_proof(pubkey=pubkey)
    clock.shift(after)
    return advance_proof(pubkey=pubkey)


def run_beat():
    """Run the beat task, and the tasks that it enqueues."""
    run = Mock(side_effect=prove_wallet)
    with patch.object(prove_wallet, "delay_many", side_effect=run_each(run)):
        prove_wallets()
    return run.call_count


# --- the proof


def test_wallet_passes_that_reports_an_invoice_unpaid_before_and_after_its_expiry(
    clock, own_wallet
):
    started = advance_proof(pubkey=own_wallet.pubkey)
    clock.shift(4 * MINUTE)
    proof = advance_proof(pubkey=own_wallet.pubkey)

    assert (started.state, proof.state, proof.network) == ("pending", "passed", "bcrt")
    assert started.expires_at < timezone.now()
    assert "state pending" in proof.answer_before
    assert "state expired" in proof.answer_after
    assert proof.ended_at is not None
    assert due_wallets() == []


def test_beat_starts_and_finishes_the_proofs_of_all_wallets(
    clock, settings, wallets, own_wallet
):
    second = wallets.create("second")
    settings.ROBOT_WALLETS = [own_wallet.url, second.url]

    assert [run_beat(), run_beat()] == [2, 0]
    clock.shift(3 * MINUTE)
    assert run_beat() == 0
    clock.shift(MINUTE)
    assert [run_beat(), run_beat()] == [2, 0]

    assert [proof.state for proof in WalletProof.objects.all()] == ["passed"] * 2
    assert len(second.requests("make_invoice")) == 1
    clock.shift(7 * DAY)
    assert run_beat() == 0


@pytest.mark.parametrize("seconds", [-120, 120])
def test_wallet_whose_clock_is_off_passes(clock, own_wallet, seconds):
    own_wallet.protocol = Protocol(clock_skew=seconds)

    proof = prove(clock, own_wallet.pubkey)

    assert proof.state == State.PASSED
    assert "state expired" in proof.answer_after


@pytest.mark.parametrize(
    ("behaviour", "state"),
    [
        (LookupBehaviour(with_state=False), State.PASSED),
        (LookupBehaviour(with_state=False, shows_preimage=True), State.PASSED),
        (LookupBehaviour(with_state=False, settles_expired=True), State.FAILED),
        # An LNbits of before it sent `state`, whose backend tells the preimage.
        (
            LookupBehaviour(
                with_state=False, settles_expired=True, shows_preimage=True
            ),
            State.FAILED,
        ),
        (LookupBehaviour(settles_expired=True), State.PASSED),
    ],
    ids=["plain", "with preimage", "settles expired", "settles with preimage", "state"],
)
def test_wallet_fails_whose_answer_about_an_expired_invoice_is_no_no(
    clock, own_wallet, caplog, behaviour, state
):
    own_wallet.lookup_behaviour = behaviour

    proof = prove(clock, own_wallet.pubkey, after=HOUR + MINUTE)

    assert proof.state == state
    assert bool(proof.reason) == (state == State.FAILED)
    assert ("wallet_not_proven" in caplog.text) == (state == State.FAILED)
    assert WalletProof.objects.get().state == state


def test_wallet_without_state_is_asked_again_only_after_an_hour(clock, own_wallet):
    """LNbits sets `settled_at` when it gives an invoice up, every half an hour."""
    own_wallet.lookup_behaviour = LookupBehaviour(with_state=False)

    assert prove(clock, own_wallet.pubkey, after=HOUR).state == State.PENDING
    clock.shift(MINUTE)
    assert advance_proof(pubkey=own_wallet.pubkey).state == State.PASSED


def test_wallet_that_takes_a_new_invoice_for_paid_fails_at_once(clock, own_wallet):
    with patch("sandbox.wallets.methods._state_of", return_value="settled"):
        proof = advance_proof(pubkey=own_wallet.pubkey)

    assert (proof.state, proof.answer_after) == (State.FAILED, "")
    assert "settled" in proof.answer_before


def test_failed_proof_is_repeated_the_next_day(clock, own_wallet):
    own_wallet.lookup_behaviour = LookupBehaviour(
        with_state=False, settles_expired=True
    )
    failed = prove(clock, own_wallet.pubkey, after=HOUR + MINUTE)
    own_wallet.lookup_behaviour = LookupBehaviour()

    clock.shift(DAY - MINUTE)
    assert due_wallets() == []
    clock.shift(MINUTE)
    assert due_wallets() == [own_wallet.pubkey]
    proof = prove(clock, own_wallet.pubkey)

    assert proof.state == State.PASSED
    assert proof.payment_hash != failed.payment_hash


# --- errors decide nothing


def test_silent_wallet_is_asked_again_later(clock, own_wallet, monkeypatch):
    monkeypatch.setattr("lightning.clients.nwc.TIMEOUT", 0.5)
    own_wallet.go_offline()
    proof = advance_proof(pubkey=own_wallet.pubkey)
    assert (proof.state, proof.payment_hash) == (State.PENDING, "")
    assert proof.reason
    assert due_wallets() == []
    own_wallet.go_online()
    monkeypatch.undo()
    clock.shift(5 * MINUTE)

    assert prove(clock, own_wallet.pubkey).state == State.PASSED


def test_proof_waits_without_an_alert_while_the_wallet_has_had_enough_requests(
    clock, settings, own_wallet, caplog
):
    settings.ROBOT_WALLET_REQUESTS_PER_MINUTE = 3  # two for background work
    advance_proof(pubkey=own_wallet.pubkey)
    WalletProof.objects.all().delete()

    proof = advance_proof(pubkey=own_wallet.pubkey)

    assert (proof.state, proof.payment_hash) == (State.PENDING, "")
    assert "requests" in proof.reason
    assert "wallet_not_proven" not in caplog.text


def test_error_after_the_expiry_decides_nothing(clock, own_wallet):
    advance_proof(pubkey=own_wallet.pubkey)
    clock.shift(4 * MINUTE)
    own_wallet.lookup_behaviour = LookupBehaviour(error="NOT_FOUND")
    proof = advance_proof(pubkey=own_wallet.pubkey)
    assert (proof.state, proof.answer_after) == (State.PENDING, "")
    own_wallet.lookup_behaviour = LookupBehaviour()
    clock.shift(5 * MINUTE)

    proof = advance_proof(pubkey=own_wallet.pubkey)

    assert (proof.state, proof.reason) == (State.PASSED, "")
    assert len(own_wallet.requests("make_invoice")) == 1


def test_invoice_that_the_wallet_has_forgotten_is_replaced_after_a_day(
    clock, own_wallet
):
    advance_proof(pubkey=own_wallet.pubkey)
    own_wallet.lookup_behaviour = LookupBehaviour(error="NOT_FOUND")
    clock.shift(4 * MINUTE)
    forgotten = advance_proof(pubkey=own_wallet.pubkey)
    own_wallet.lookup_behaviour = LookupBehaviour()
    clock.shift(DAY)

    proof = prove(clock, own_wallet.pubkey)

    assert proof.state == State.PASSED
    assert proof.payment_hash != forgotten.payment_hash


def test_wallet_that_ignores_the_expiry_fails(clock, own_wallet):
    own_wallet.invoice_behaviour = InvoiceBehaviour(expiry=86_400)

    proof = advance_proof(pubkey=own_wallet.pubkey)

    assert (proof.state, proof.reason) == (
        State.FAILED,
        "Our wallet's invoice has another expiry.",
    )
    assert due_wallets() == []


def test_answer_about_one_invoice_does_not_end_the_proof_by_another(clock, own_wallet):
    """A command and beat may start a proof at the same moment."""
    advance_proof(pubkey=own_wallet.pubkey)
    clock.shift(4 * MINUTE)
    ask = Wallet.lookup_invoice

    def ask_and_start_another(wallet, payment_hash):
        lookup = ask(wallet, payment_hash)
        WalletProof.objects.update(payment_hash="ab" * 32)
        return lookup

    with patch.object(Wallet, "lookup_invoice", ask_and_start_another):
        advance_proof(pubkey=own_wallet.pubkey)

    assert WalletProof.objects.get().state == State.PENDING


# --- issuing


def test_unproven_wallet_issues_nothing_in_production(production, clock, own_wallet):
    tenant = TenantFactory()
    with pytest.raises(OwnWalletUnproven) as caught:
        get_or_issue_invoice(make_payment_request(tenant))
    assert caught.value.code == "robot-wallet-unproven"
    prove(clock, own_wallet.pubkey, after=3 * MINUTE)
    with pytest.raises(OwnWalletUnproven):
        get_or_issue_invoice(make_payment_request(tenant))
    assert not LightningInvoice.objects.exists()

    clock.shift(MINUTE)
    advance_proof(pubkey=own_wallet.pubkey)

    assert get_or_issue_invoice(make_payment_request(tenant)).bolt11


def test_unproven_wallet_issues_nothing_for_a_tenants_wallet(production, alice):
    with pytest.raises(OwnWalletUnproven):
        start_payment(make_payment_request(tenant_with(alice)))


def test_wallet_that_failed_issues_nothing(production, clock, own_wallet):
    own_wallet.lookup_behaviour = LookupBehaviour(
        with_state=False, settles_expired=True
    )
    prove(clock, own_wallet.pubkey, after=HOUR + MINUTE)

    with pytest.raises(OwnWalletUnproven):
        get_or_issue_invoice(make_payment_request(TenantFactory()))


def test_only_the_wallet_that_issues_needs_a_proof(
    production, clock, settings, wallets, own_wallet
):
    second = wallets.create("second")
    second.protocol = MAINNET
    prove(clock, own_wallet.pubkey)
    settings.ROBOT_WALLETS = [own_wallet.url, second.url]
    assert get_or_issue_invoice(make_payment_request(TenantFactory()))

    settings.ROBOT_WALLETS = [second.url, own_wallet.url]
    with pytest.raises(OwnWalletUnproven):
        get_or_issue_invoice(make_payment_request(TenantFactory()))


# --- test networks


@pytest.mark.parametrize("network", [n for n in Network if n != Network.MAINNET])
def test_wallet_on_a_test_network_never_passes_in_production(
    production, clock, own_wallet, network
):
    own_wallet.protocol = Protocol(network=network)

    proof = prove(clock, own_wallet.pubkey, after=DAY)

    assert (proof.state, proof.reason) == (
        State.FAILED,
        f"Our wallet's invoice is on a test network ({network.currency}).",
    )


def test_proof_on_a_test_network_does_not_count_in_production(
    clock, settings, own_wallet
):
    assert prove(clock, own_wallet.pubkey).state == State.PASSED
    assert get_or_issue_invoice(make_payment_request(TenantFactory()))
    settings.ROBOT_WALLET_ALLOW_UNPROVEN = False

    with pytest.raises(OwnWalletUnproven):
        get_or_issue_invoice(make_payment_request(TenantFactory()))
    assert due_wallets() == [own_wallet.pubkey]


def test_proven_wallet_that_moved_to_a_test_network_issues_nothing(
    production, clock, own_wallet
):
    prove(clock, own_wallet.pubkey)
    own_wallet.protocol = Protocol()

    with pytest.raises(InvoiceMismatch, match="test network"):
        get_or_issue_invoice(make_payment_request(TenantFactory()))


# --- the checks


def test_check_warns_of_unproven_wallets(production, clock, own_wallet):
    with pytest.raises(SystemCheckError, match=r"lightning\.W001"):
        call_command("check", "--database", "default", "--fail-level", "WARNING")

    prove(clock, own_wallet.pubkey)

    call_command("check", "--database", "default", "--fail-level", "WARNING")


def test_check_of_a_deployment_warns_if_no_proof_is_needed(settings):
    assert [each.id for each in check_proofs_are_required()] == ["lightning.W002"]
    settings.ROBOT_WALLET_ALLOW_UNPROVEN = False
    assert check_proofs_are_required() == []


# --- the command


@pytest.fixture
def sleep(clock, monkeypatch):
    monkeypatch.setattr(f"{COMMAND}.sleep", clock.shift)


def run_command() -> str:
    out = StringIO()
    call_command("prove_wallets", stdout=out)
    return out.getvalue()


def test_command_waits_for_the_result(sleep, own_wallet):
    output = run_command()

    assert "state pending" in output
    assert f"{own_wallet.pubkey} passed" in output
    assert WalletProof.objects.get().state == State.PASSED


def test_command_fails_with_the_reason(sleep, own_wallet):
    own_wallet.lookup_behaviour = LookupBehaviour(
        with_state=False, settles_expired=True
    )

    with pytest.raises(CommandError, match="Not all"):
        run_command()

    assert WalletProof.objects.get().state == State.FAILED


def test_command_repeats_a_failed_proof_at_once_and_no_passed_one(sleep, own_wallet):
    own_wallet.invoice_behaviour = InvoiceBehaviour(expiry=86_400)
    with pytest.raises(CommandError):
        run_command()
    own_wallet.invoice_behaviour = InvoiceBehaviour()

    run_command()
    run_command()

    assert WalletProof.objects.get().state == State.PASSED
    assert len(own_wallet.requests("make_invoice")) == 2


def test_command_does_not_shorten_a_proof_under_way(sleep, clock, own_wallet):
    proof = advance_proof(pubkey=own_wallet.pubkey)
    clock.shift(MINUTE)

    run_command()

    assert len(own_wallet.requests("make_invoice")) == 1
    _, last = own_wallet.requests("lookup_invoice")
    assert last.received_at >= int(proof.due_at.timestamp())


# --- the admin


def test_proof_is_shown_to_support(admin_client, clock, own_wallet):
    own_wallet.lookup_behaviour = LookupBehaviour(
        with_state=False, settles_expired=True
    )
    proof = prove(clock, own_wallet.pubkey, after=HOUR + MINUTE)

    page = admin_client.get("/admin/lightning/walletproof/")
    details = admin_client.get(f"/admin/lightning/walletproof/{proof.pk}/change/")

    assert proof.pk in page.content.decode()
    assert "cannot be read as a no" in details.content.decode()
