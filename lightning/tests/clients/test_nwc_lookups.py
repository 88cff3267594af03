"""Wallets' answers about an invoice: yes, no, or neither."""

import hashlib
from datetime import UTC, datetime

import pytest

from lightning.clients.nwc_replies import (
    Lookup,
    Status,
    is_preimage_of,
    read_budget,
    read_issued,
    read_lookup,
)
from lightning.exceptions import InvalidWalletReply

SETTLED, UNSETTLED, UNKNOWN = Status.SETTLED, Status.UNSETTLED, Status.UNKNOWN
PREIMAGE = "cd" * 32
HASH = hashlib.sha256(bytes.fromhex(PREIMAGE)).hexdigest()
TIME = 1_700_000_000
SETTLED_AT = datetime.fromtimestamp(TIME, UTC)


def look_up(**fields) -> Lookup:
    return read_lookup(HASH, {"type": "incoming", "payment_hash": HASH, **fields})


# --- with a state


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"state": "settled"}, SETTLED),
        ({"state": "SETTLED", "settled_at": TIME}, SETTLED),
        ({"state": "settled", "settled_at": "yesterday"}, SETTLED),
        ({"state": "pending"}, UNSETTLED),
        ({"state": "pending", "settled_at": None}, UNSETTLED),
        ({"state": "expired"}, UNSETTLED),
        ({"state": "failed"}, UNSETTLED),
        ({"state": "accepted"}, Status.HELD),
        # A state and a time that contradict each other.
        ({"state": "pending", "settled_at": TIME}, UNKNOWN),
        ({"state": "brand-new"}, UNKNOWN),
        ({"state": 5}, UNKNOWN),
        ({"state": False}, UNKNOWN),
    ],
)
def test_state_decides(fields, status):
    assert look_up(**fields).status is status


@pytest.mark.parametrize("state", ["failed", "expired"])
def test_unpaid_invoice_of_lnbits_is_unsettled(state):
    """LNbits sets `settled_at` and the preimage of whatever is no longer pending.

    https://github.com/lnbits/nwcprovider/blob/main/tasks.py (_build_transaction_data)
    """
    lookup = look_up(state=state, settled_at=TIME, created_at=TIME, preimage=PREIMAGE)

    assert (lookup.status, lookup.preimage) == (UNSETTLED, "")
    assert lookup.settled_at is None


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        # Payer and receiver are one wallet, which returns the outgoing payment.
        ({"state": "settled", "type": "outgoing"}, SETTLED),
        ({"state": "pending", "type": "outgoing"}, UNKNOWN),
        ({"state": "failed", "type": "Outgoing"}, UNKNOWN),
        ({"state": "accepted", "type": "outgoing"}, UNKNOWN),
        ({"type": "outgoing"}, UNKNOWN),
        ({"state": "failed", "type": "withdrawal"}, UNKNOWN),
        ({"state": "failed", "type": None}, UNSETTLED),
    ],
)
def test_outgoing_payment_says_something_only_once_settled(fields, status):
    assert look_up(**fields).status is status


# --- without a state


@pytest.mark.parametrize("absent", [{}, {"state": None}, {"state": ""}])
@pytest.mark.parametrize("preimage", [None, "", "00" * 32, PREIMAGE])
@pytest.mark.parametrize(
    "never",
    # The last two are Go's zero time.
    [None, 0, "0", "", False, -62_135_596_800, "0001-01-01T00:00:00Z"],
)
def test_without_a_time_nothing_is_settled(absent, preimage, never):
    """The preimage proves nothing: the issuer of an invoice knows it."""
    lookup = look_up(**absent, settled_at=never, preimage=preimage)

    assert (lookup.status, lookup.preimage) == (UNSETTLED, "")


@pytest.mark.parametrize("preimage", [None, "", "00" * 32, "ef" * 32, 7, [PREIMAGE]])
def test_time_alone_settles_nothing(preimage):
    lookup = look_up(amount=1_000, created_at=TIME, settled_at=TIME, preimage=preimage)

    assert (lookup.status, lookup.preimage) == (UNKNOWN, "")


@pytest.mark.parametrize(
    "settled_at",
    [
        TIME,
        TIME + 0.25,
        TIME * 1_000,
        TIME * 1_000 + 250,
        TIME * 1_000_000,
        TIME * 10**9,
        str(TIME),
        f"{TIME}.25",
        f"{TIME * 1_000}",
        "2023-11-14T22:13:20Z",
        "2023-11-14T22:13:20.250+00:00",
        "2023-11-14 23:13:20+01:00",
        "2023-11-14T22:13:20",
    ],
)
def test_time_in_any_spelling_settles_together_with_the_preimage(settled_at):
    lookup = look_up(settled_at=settled_at, preimage=PREIMAGE.upper())

    assert (lookup.status, lookup.preimage) == (SETTLED, PREIMAGE)
    assert lookup.settled_at is not None
    assert abs((lookup.settled_at - SETTLED_AT).total_seconds()) < 1
    assert look_up(settledAt=settled_at, preimage=PREIMAGE).status is SETTLED
    assert look_up(settled_at=settled_at).status is UNKNOWN


@pytest.mark.parametrize(
    "settled_at",
    [True, 5, 1e300, float("nan"), float("inf"), 10**400, "soon", "1e400", {}, []],
)
def test_unreadable_time_is_neither_yes_nor_no(settled_at):
    lookup = look_up(settled_at=settled_at, preimage=PREIMAGE)

    assert (lookup.status, lookup.settled_at) == (UNKNOWN, None)
    assert look_up(state="settled", settled_at=settled_at).status is SETTLED


# --- side fields


@pytest.mark.parametrize(
    ("amount", "msat"),
    [
        (22_000, 22_000),
        ("22000", 22_000),
        (22_000.0, 22_000),
        (0, None),
        (-5, None),
        (True, None),
        (1.5, None),
        ("many", None),
        ("22000msat", None),
        (10**30, None),
        ([22_000], None),
        (None, None),
    ],
)
def test_amount_never_vetoes_the_state(amount, msat):
    lookup = look_up(state="settled", amount=amount)

    assert (lookup.status, lookup.amount_msat) == (SETTLED, msat)
    assert look_up(state="failed", amount=amount).status is UNSETTLED


def test_budget_may_be_written_as_text():
    budget = read_budget({"total_budget": "5000", "used_budget": 1_000.0})

    assert budget is not None
    assert (budget.total_msat, budget.used_msat) == (5_000, 1_000)


@pytest.mark.parametrize("payment_hash", ["ab" * 32, None, 5, ""])
def test_answer_about_another_invoice_is_invalid(payment_hash):
    with pytest.raises(InvalidWalletReply):
        look_up(state="settled", payment_hash=payment_hash)


@pytest.mark.parametrize(
    ("payment_hash", "read"), [(None, ""), ("", ""), (HASH, HASH), (HASH.upper(), HASH)]
)
def test_issued_invoice_may_come_without_its_hash(payment_hash, read):
    issued = read_issued({"invoice": "lnbc1", "payment_hash": payment_hash})

    assert (issued.bolt11, issued.payment_hash) == ("lnbc1", read)


@pytest.mark.parametrize(
    "result", [{}, {"invoice": None}, {"invoice": "lnbc1", "payment_hash": "00"}]
)
def test_answer_without_an_issued_invoice_is_invalid(result):
    with pytest.raises(InvalidWalletReply):
        read_issued(result)


def test_hashes_may_be_upper_case():
    assert look_up(state="settled", payment_hash=HASH.upper()).status is SETTLED
    assert is_preimage_of(HASH, PREIMAGE.upper())


# --- the line for support


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        (
            {"state": "settled", "settled_at": TIME},
            "incoming, state settled, settled_at 1700000000, no preimage",
        ),
        (
            {"settled_at": f"{TIME}.5", "amount": "22000", "preimage": PREIMAGE},
            "incoming, no state, settled_at 1700000000.5, amount 22000, right preimage",
        ),
        (
            {"type": "outgoing", "state": "failed", "preimage": "00" * 32},
            "outgoing, state failed, no settled_at, wrong preimage",
        ),
        (
            {"type": None, "state": ["x"], "settled_at": {}, "amount": 0},
            "no type, state a list, settled_at a dict, amount 0, no preimage",
        ),
    ],
)
def test_answer_is_described_in_one_line(fields, line):
    assert look_up(**fields).answer == line


def test_description_is_short_and_has_no_secret():
    hostile = f"{PREIMAGE}\n{'x' * 900}"
    lookup = look_up(type=hostile, state=hostile, settled_at=hostile, amount=hostile)

    assert PREIMAGE not in lookup.answer
    assert "\n" not in lookup.answer
    assert len(lookup.answer) <= 240
