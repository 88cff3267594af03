"""Wallets' answers of any type and value: each is read, or is refused as invalid."""

import hashlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lightning.clients.nwc_replies import (
    Status,
    is_preimage_of,
    read_budget,
    read_info,
    read_issued,
    read_lookup,
    read_reply,
)
from lightning.clients.nwc_values import has_time, read_time, read_word
from lightning.exceptions import InvalidWalletReply, WalletError

PREIMAGE = "cd" * 32
HASH = hashlib.sha256(bytes.fromhex(PREIMAGE)).hexdigest()
TIME = 1_700_000_000
METHOD = "lookup_invoice"

NUMBERS = [TIME, TIME + 0.5, TIME * 1_000, TIME * 10**9, f"{TIME}", 10**11, -1, 0, "0"]
DATES = ["2023-11-14T22:13:20Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59"]
TIMES = st.sampled_from([*NUMBERS, *DATES])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["nan", "-inf", "1e400", 2**63, -(2**63)])
    | TIMES
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
STATES = ["settled", " SETTLED", "pending", "expired", "failed", "accepted", "", "paid"]
LOOKUPS = st.fixed_dictionaries(
    {"payment_hash": st.just(HASH)},
    optional={
        "type": VALUES | st.sampled_from(["incoming", "outgoing", "Incoming"]),
        "state": VALUES | st.sampled_from(STATES),
        "settled_at": VALUES,
        "settledAt": VALUES,
        "preimage": VALUES | st.sampled_from([PREIMAGE, PREIMAGE.upper(), "00" * 32]),
        "amount": VALUES,
    },
)
ERRORS = st.dictionaries(
    st.sampled_from(["code", "type", "message"]),
    VALUES | st.sampled_from(["RATE_LIMITED", "INTERNAL"]),
)
REPLIES = st.fixed_dictionaries(
    {},
    optional={
        "result_type": VALUES | st.just(METHOD),
        "error": VALUES | ERRORS,
        "result": VALUES,
    },
)
INFO = "alias pubkey network methods notifications expires_at"
BUDGET = "used_budget total_budget renews_at renewal_period"
FIELDS = f"{INFO} {BUDGET} invoice payment_hash".split()
RESULTS = st.dictionaries(st.sampled_from(FIELDS), VALUES)


@settings(max_examples=500)
@given(LOOKUPS)
@example({"payment_hash": HASH, "settled_at": None, "settledAt": TIME})
def test_only_a_readable_answer_is_yes_or_no(result):
    lookup = read_lookup(HASH, result)

    state = read_word(result.get("state"))
    times = [result.get("settled_at"), result.get("settledAt")]
    if lookup.status is Status.SETTLED and state != "settled":
        assert state == ""
        assert is_preimage_of(HASH, result.get("preimage"))
        assert any(map(read_time, times))
    if lookup.status is Status.UNSETTLED:
        assert read_word(result.get("type")) in ("incoming", "")
        assert state in ("expired", "failed") or not any(map(has_time, times))


@settings(max_examples=500)
@given(LOOKUPS)
def test_description_for_support_is_short_and_without_preimage(result):
    answer = read_lookup(HASH, result).answer

    assert len(answer) < 300
    assert PREIMAGE not in answer.lower()


@settings(max_examples=500)
@given(REPLIES)
def test_reply_has_a_result_or_a_short_error(content):
    try:
        assert isinstance(read_reply(METHOD, content), dict)
    except WalletError as exc:
        assert len(exc.message) < 300


@pytest.mark.parametrize("read", [read_info, read_budget, read_issued])
@settings(max_examples=200)
@given(RESULTS)
def test_other_results_are_read_or_invalid(read, result):
    try:
        read(result)
    except InvalidWalletReply:
        assert read is not read_info
