from django.db import models
from django.utils import timezone


class WalletProof(models.Model):
    """Proof that one of our own wallets can tell an unpaid invoice from a paid one.

    It issues an invoice that nobody pays, and is asked before and after the expiry.
    Without a `payment_hash` the wallet has issued none yet; `reason` says why.
    """

    class State(models.TextChoices):
        PENDING = "pending"
        PASSED = "passed"
        FAILED = "failed"

    wallet_pubkey = models.CharField(max_length=64, primary_key=True)
    state = models.CharField(
        max_length=16, choices=State.choices, default=State.PENDING
    )
    payment_hash = models.CharField(max_length=64, blank=True, default="")
    network = models.CharField(
        max_length=8,
        blank=True,
        default="",
        help_text="The network of its invoices: bc, tb, tbs or bcrt.",
    )
    started_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(help_text="When the invoice expires.")
    answer_before = models.CharField(max_length=240, blank=True, default="")
    answer_after = models.CharField(max_length=240, blank=True, default="")
    due_at = models.DateTimeField(
        default=timezone.now, help_text="When the wallet is asked next."
    )
    reason = models.CharField(max_length=240, blank=True, default="")
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["wallet_pubkey"]
        verbose_name = "proof of an own wallet"
        verbose_name_plural = "proofs of own wallets"

    def __str__(self) -> str:
        return f"{self.wallet_pubkey[:12]} {self.state}"
