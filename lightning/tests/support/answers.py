"""Answers of our own wallet that its sandbox does not give, in place of its own."""

from lightning.clients import nwc
from lightning.clients.nwc_replies import Lookup, Status
from lightning.exceptions import NoWalletReply, WalletFailed

UNPAID = Lookup(Status.UNSETTLED, answer="incoming, state expired, no preimage")
HELD = Lookup(Status.HELD, answer="incoming, state accepted, no preimage")
#: Of a hub that has issued an invoice and has failed to pay it for a tenant:
#: https://github.com/getAlby/hub/blob/master/transactions/transactions_service.go
#: (`LookupTransaction` takes the newest of both).
OUTGOING = Lookup(Status.UNKNOWN, answer="outgoing, state failed, no preimage")
SILENCE = NoWalletReply("The wallet does not answer.")
ERROR = WalletFailed("Not found.", nwc_code="NOT_FOUND")


def answer_lookups(monkeypatch, answer) -> None:
    """Let every wallet answer look-ups like this."""

    def lookup_invoices(self, payment_hashes, *, timeout=None):
        return dict.fromkeys(payment_hashes, answer)

    monkeypatch.setattr(nwc.Wallet, "lookup_invoices", lookup_invoices)
