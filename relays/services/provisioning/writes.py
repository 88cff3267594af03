"""Writes to zooid: only what differs, recorded before they leave.

A write without an answer may have been executed. It is settled before the next one.
"""

from caravel.core.exceptions import CaravelError
from relays.clients.nip11 import fetch_document
from relays.clients.zooid import Zooid
from relays.exceptions import (
    HostTaken,
    RelayExists,
    RelayMissing,
    RelayUnreachable,
    SchemaTaken,
    ZooidOutcomeUnknown,
)
from relays.services.provisioning import hosts
from relays.services.provisioning.configuration import (
    WORDS,
    Configuration,
    difference,
    forget,
    merge,
)
from relays.services.provisioning.proofs import Shown, has_own_words, shown_part
from relays.services.provisioning.state import Sent, SyncState

#: Failures in a row after which a patch is sent again although nobody can look.
_BLIND_AFTER = 6
#: Answers which tell that zooid has executed neither this write nor an earlier one.
_NOT_DONE = (HostTaken, SchemaTaken, RelayMissing)


def settle(state: SyncState) -> None:
    """Find out if a write without an answer was executed.

    What stays uncertain is no longer `known`, so it will be sent again.
    """
    if state.sent is None or state.wanted is None:
        return
    if state.sent.method == "POST":
        _repeat_create(state, state.sent.body)
    elif state.sent.method == "PATCH" and state.known is not None:
        _settle_patch(state, state.known, state.sent)
        if state.sent and not difference(state.wanted, state.known):
            state.clear_sent()


def send_difference(state: SyncState) -> None:
    """Make zooid's configuration the wanted one, by one write if any is needed."""
    if state.wanted is None:
        if state.known is not None or state.sent is not None:
            _send(state, "DELETE", {})
        return
    if state.known is None:
        _create(state, state.wanted)
    patch = difference(state.wanted, state.known or {})
    if patch:
        _patch(state, state.wanted, patch)


def _create(state: SyncState, wanted: Configuration) -> None:
    try:
        _send(state, "POST", wanted)
    except HostTaken as exc:
        hosts.yield_to_holder(state, exc)
    except RelayExists:
        # Not by us, as far as is known. The words there may be the owner's, and with
        # another schema it would lose sight of its events.
        words = {word: wanted["info"][word] for word in WORDS}
        state.acknowledge({"schema": wanted["schema"], "info": words})


def _patch(state: SyncState, wanted: Configuration, patch: Configuration) -> None:
    try:
        _send(state, "PATCH", patch)
    except HostTaken as exc:
        between = hosts.yield_to_holder(state, exc)
        _send(state, "PATCH", {**patch, "host": between})
        raise hosts.come_back() from exc
    except RelayMissing:
        # Somebody has deleted it at zooid.
        state.acknowledge(None)
        _create(state, wanted)


def _repeat_create(state: SyncState, body: Configuration) -> None:
    """Repeat a POST with the same body: if the id exists, that body was taken."""
    try:
        _send(state, "POST", body)
    except RelayExists:
        state.acknowledge(body)
    except HostTaken:
        # It was not executed. The relay may have to get another name by now.
        return


def _settle_patch(state: SyncState, known: Configuration, sent: Sent) -> None:
    part: Configuration = {}
    try:
        document = _look(state, known, sent.body)
    except RelayUnreachable:
        if state.failures < _BLIND_AFTER:
            raise
    else:
        part = shown_part(
            document,
            known,
            sent.body,
            seen=state.words_seen,
            identity=state.identity,
        )
        # Of what was unknown before, it may have been so already.
        is_proof = part.keys() & known.keys() - {"info"} or has_own_words(
            document, part
        )
        # zooid executes all or nothing of one patch, but part of a repeated one may
        # have been in the first.
        if is_proof and not sent.is_repeated:
            state.acknowledge_patch(sent.body)
            return
    if part:
        state.correct(part)
    state.known = merge(forget(known, sent.body), part)


def _look(state: SyncState, known: Configuration, patch: Configuration) -> Shown:
    """Return the document at the host where the patch could be seen."""
    after = merge(known, patch)
    # A relay that went off is missed at the name that it had.
    before, now = known.get("host", state.host), after.get("host", state.host)
    return fetch_document(before if after.get("inactive") else now)


def _send(state: SyncState, method: str, body: Configuration) -> None:
    """Send one write and store its answer; raises what the client does."""
    was_unknown = state.sent is not None
    state.record_sent(method, body)
    try:
        _call(state, method, body)
    except ZooidOutcomeUnknown:
        raise
    except CaravelError as exc:
        # Not for an earlier write without an answer, if this one did not arrive.
        if not was_unknown or isinstance(exc, _NOT_DONE):
            state.clear_sent()
        raise
    if method == "PATCH":
        state.acknowledge_patch(body)
    else:
        state.acknowledge(body or None)


def _call(state: SyncState, method: str, body: Configuration) -> None:
    zooid, relay = Zooid(), state.relay
    if method == "POST":
        # Only here: a PATCH would give the relay another identity.
        zooid.create_relay(relay.pk, {**body, "secret": relay.secret.reveal()})
    elif method == "PATCH":
        zooid.patch_relay(relay.pk, body)
    else:
        zooid.delete_relay(relay.pk)
