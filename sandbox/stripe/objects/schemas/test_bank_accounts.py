"""Stripe's test bank accounts (docs pages "ACH Direct Debit" and "SEPA Direct Debit").

Their payments are processed for days. Microdeposits and mandates are not modelled: an
account is verified from the start.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Type = Literal["us_bank_account", "sepa_debit"]
CURRENCIES: Mapping[Type, str] = {"us_bank_account": "usd", "sepa_debit": "eur"}


SEPA = {"branch_code": None, "country": "DE"}


@dataclass(frozen=True, slots=True)
class BankAccount:
    """A test account. Its payments fail with `failure`, succeed, or never end."""

    type: Type
    number: str
    failure: str | None = None
    dispute: bool = False
    endless: bool = False

    def of_method(self) -> dict[str, Any]:
        """Return the account as a payment method has it."""
        if self.type == "sepa_debit":
            return {**self._common(), "generated_from": None}
        return {
            **self._common(),
            "financial_connections_account": None,
            "networks": {"preferred": "ach", "supported": ["ach"]},
            "status_details": None,
        }

    def of_charge(self) -> dict[str, Any]:
        """Return the account as a charge has it."""
        if self.type == "sepa_debit":
            return {**self._common(), "mandate": None}
        return {**self._common(), "payment_reference": None}

    def _common(self) -> dict[str, Any]:
        common = {
            "fingerprint": hashlib.sha256(self.number.encode()).hexdigest()[:16],
            "last4": self.number[-4:],
        }
        if self.type == "sepa_debit":
            return {**common, "bank_code": "37040044", **SEPA}
        return {
            **common,
            "account_holder_type": "individual",
            "account_type": "checking",
            "bank_name": "STRIPE TEST BANK",
            "routing_number": "110000000",
        }


def _us(number: str, failure: str | None = None, **fields: bool) -> BankAccount:
    return BankAccount("us_bank_account", number, failure, **fields)


def _sepa(number: str, failure: str | None = None, **fields: bool) -> BankAccount:
    return BankAccount("sepa_debit", number, failure, **fields)


#: By the ids that attach a new payment method. SEPA: German accounts only.
ACCOUNTS: Mapping[str, BankAccount] = {
    "pm_usBankAccount_success": _us("000123456789"),
    "pm_usBankAccount_accountClosed": _us("000111111113", "account_closed"),
    "pm_usBankAccount_noAccount": _us("000111111116", "no_account"),
    "pm_usBankAccount_insufficientFunds": _us("000222222227", "insufficient_funds"),
    "pm_usBankAccount_debitNotAuthorized": _us("000333333335", "debit_not_authorized"),
    "pm_usBankAccount_dispute": _us("000555555559", dispute=True),
    "pm_usBankAccount_processing": _us("000000000009", endless=True),
    "pm_success_de": _sepa("DE89370400440532013000"),
    "pm_failed_de": _sepa("DE62370400440532013001", "generic_could_not_process"),
    "pm_disputed_de": _sepa("DE35370400440532013002", dispute=True),
    "pm_insufficientFunds_de": _sepa("DE65370400440002222227", "insufficient_funds"),
}
