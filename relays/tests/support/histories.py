"""Random histories of relays, their owners, staff, and a zooid that misbehaves."""

from __future__ import annotations

import copy
import random
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
import time_machine
from django.utils import timezone

from caravel.core.exceptions import CaravelError
from relays.clients.zooid import Zooid as Client
from relays.models import Relay, RelaySync
from relays.services import lifecycle
from relays.services.members import count_for_plan
from relays.services.provisioning.configuration import desired, difference
from relays.services.provisioning.probes import claim_due, probe_relays
from relays.services.provisioning.sync import SyncOutcome, sync_relay
from relays.tests.factories import RelayFactory
from sandbox.zooid import Zooid
from sandbox.zooid.faults import When

WORDS = ("name", "icon", "description")
Config = dict[str, Any]


#: Seconds for a response: less than that of a slow zooid.
TIMEOUT = 0.15


class Killed(BaseException):
    """The end of a worker: nothing after it runs."""


class History:
    """One history: `steps` random steps, then a zooid that answers."""

    def __init__(
        self, seed: int, zooid: Zooid, patch: pytest.MonkeyPatch, start: datetime
    ) -> None:
        self.random = random.Random(seed)
        self.zooid = zooid
        self.now = start
        #: Words from here and from the owner at the relay, numbered in their order.
        self.written: dict[tuple[str, str], list[str]] = defaultdict(list)
        #: Writes by Caravel that changed nothing, and whether that could be known.
        self.needless: list[str] = []
        self.changes = 0
        self.problems: list[str] = []
        self._count = 0
        self._patch = patch
        self._uncertain: set[str] = set()
        self._replaced: set[tuple[str, str]] = set()
        self._record_writes()

    def run(self, steps: int) -> None:
        for _ in range(3):
            self._create()
        for _ in range(steps):
            self.random.choice(_STEPS)(self)
            self._pass(self.random.choice((1, 20, 40, 300)))
            self._work()
        self.zooid.clear_faults()
        # More than an hour for the last retry, and a probe after it.
        for _ in range(20):
            self._pass(600)
            self._work()

    def check(self) -> list[str]:
        """Return the faults that remain in the end."""
        for relay in Relay.objects.select_related("plan", "tenant", "sync"):
            self._check(relay)
        return self.problems

    # --- Steps

    def _create(self) -> None:
        plan, name = self.random.choice(("free", "basic")), self._free_name()
        self._travelled(lambda: RelayFactory(subdomain=name, plan_id=plan))

    def _edit_here(self) -> None:
        word, relay = self.random.choice(WORDS), self._relay()
        text = self._text("here", word)
        change = partial(_set_word, word=word, text=text)
        if self._change(change, relay):
            self.written[relay, word].append(text)

    def _edit_there(self) -> None:
        """Edit a word at the relay, as NIP-86 does; not of one that is dark."""
        word, relay = self.random.choice(WORDS), self._relay()
        if not self.zooid.is_served(relay):
            return
        text = self._text("there", word)
        config = copy.deepcopy(self.zooid.relays[relay])
        self._replaced.add((relay, config["info"][word]))
        config["info"][word] = text
        with self.zooid.lock:
            self.zooid.write(relay, config, "nip86")
        self.zooid.reload_due()
        self.written[relay, word].append(text)

    def _switch(self) -> None:
        field = self.random.choice(("groups_enabled", "push_enabled", "public_join"))
        value = self.random.choice((True, False))
        self._change(lambda pk: lifecycle.update_relay(relay_id=pk, **{field: value}))

    def _rename(self) -> None:
        name = self._free_name()
        self._change(lambda pk: lifecycle.update_relay(relay_id=pk, subdomain=name))

    def _change_plan(self) -> None:
        plan = self.random.choice(("free", "basic", "growth"))

        def change(relay_id: UUID) -> None:
            count_for_plan(relay_id=relay_id, plan_id=plan)
            lifecycle.change_plan(relay_id=relay_id, plan_id=plan, ignore_quotas=True)

        self._change(change)

    def _change_status(self) -> None:
        service: Callable[..., Relay] = self.random.choice(
            (
                lifecycle.mark_relay_delinquent,
                lifecycle.reactivate_relay,
                lifecycle.deactivate_relay,
                lifecycle.activate_relay,
            )
        )
        self._change(lambda pk: service(relay_id=pk))

    def _delete(self) -> None:
        if Relay.objects.existing().count() > 2:
            self._change(lambda pk: lifecycle.delete_relay(relay_id=pk))
            self._create()

    def _go_away(self) -> None:
        self.zooid.fault("error", place="everywhere", status=503)

    def _lose_answers(self) -> None:
        when: When = self.random.choice(("before", "after"))
        self.zooid.fault("reset", when=when, times=1)

    def _be_slow(self) -> None:
        self.zooid.fault("slow", when="after", seconds=0.3, times=1)

    def _start_again(self) -> None:
        """Listen for a while before the relays are loaded."""
        self.zooid.clear_faults()
        self.zooid.fault("body", place="relays", status=404, body="Not Found\n")
        self._work()
        self.zooid.clear_faults()

    def _come_back(self) -> None:
        self.zooid.clear_faults()

    def _kill_worker(self) -> None:
        """Kill the next worker that writes, after zooid's answer."""
        for method in ("create_relay", "patch_relay", "delete_relay"):
            self._patch.setattr(Client, method, _deadly(getattr(Client, method)))

    def _write_by_hand(self) -> None:
        """Write as an operator or a second Caravel does."""
        relay = self._relay()
        if relay not in self.zooid.relays:
            return
        self._uncertain.add(relay)
        kind = self.random.choice(("inactive", "owner", "remove"))
        if kind == "remove":
            # What the owner has edited is lost with it.
            for word in WORDS:
                self.written.pop((relay, word), None)
            self.zooid.remove(relay)
        elif kind == "owner":
            self.zooid.edit(relay, {"info": {"pubkey": "8" * 64}})
        else:
            is_off = self.zooid.relays[relay].get("inactive", False)
            self.zooid.edit(relay, {"inactive": not is_off})

    # --- Caravel

    def _work(self) -> None:
        """Do the work of beat and the workers at this time."""
        with time_machine.travel(self.now, tick=False):
            for batch in claim_due(now=timezone.now()):
                probe_relays(relay_ids=batch)
            stale = list(RelaySync.objects.stale().values_list("pk", flat=True))
            self.random.shuffle(stale)
            for relay_id in stale:
                self._sync(relay_id)

    def _sync(self, relay_id: UUID) -> None:
        try:
            outcome = sync_relay(relay_id=relay_id)
            if outcome == SyncOutcome.IN_SYNC:
                self._uncertain.discard(str(relay_id))
        except Killed:
            self._uncertain.add(str(relay_id))
        error = RelaySync.objects.values_list("last_error_code", flat=True)
        if error.get(pk=relay_id) == "zooid-outcome-unknown":
            self._uncertain.add(str(relay_id))

    def _change(
        self, service: Callable[[UUID], object], relay_id: str | None = None
    ) -> bool:
        key = UUID(relay_id or self._relay())
        try:
            self._travelled(lambda: service(key))
        except CaravelError:
            return False  # Such as reactivating an active relay.
        return True

    def _travelled(self, work: Callable[[], object]) -> None:
        with time_machine.travel(self.now, tick=False):
            work()

    def _relay(self) -> str:
        rows = Relay.objects.existing().order_by("created_at", "pk")
        ids = list(rows.values_list("pk", flat=True))
        return str(self.random.choice(ids))

    def _pass(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def _text(self, place: str, word: str) -> str:
        self._count += 1
        text = f"{place}-{self._count}"
        return f"https://{text}.example/i.png" if word == "icon" else text

    def _free_name(self) -> str:
        used = {*Relay.objects.existing().values_list("subdomain", flat=True)}
        return self.random.choice(
            [n for n in map("r{}".format, range(6)) if n not in used]
        )

    # --- What zooid notices

    def _record_writes(self) -> None:
        instances, configs = self.zooid.instances, self.zooid.store.configs
        before: dict[str, Config | None] = {}
        write = instances.write

        def record(relay_id: str, writer: Any) -> None:
            config = copy.deepcopy(configs.get(relay_id))
            if writer == "api":
                self._judge(relay_id, before.get(relay_id), config)
            before[relay_id] = config
            write(relay_id, writer)

        self._patch.setattr(instances, "write", record)

    def _judge(self, relay_id: str, before: Config | None, now: Config | None) -> None:
        """Judge a write of Caravel: is it needless, or does it harm?"""
        if now == before:
            # Nobody could know: NIP-11 does not show it, and an answer was lost or
            # somebody else has written it.
            if relay_id in self._uncertain:
                self.needless.append(relay_id)
            else:
                self.problems.append(f"{relay_id}: needless write")
            return
        self.changes += 1
        if before and now:
            if before["secret"] != now["secret"]:
                self.problems.append(f"{relay_id}: rotated secret")
            for word in WORDS:
                text = now["info"][word]
                is_new = before["info"][word] != text
                if is_new and (relay_id, text) in self._replaced:
                    self.problems.append(f"{relay_id}: took back {word}")

    def _check(self, relay: Relay) -> None:
        key, wanted = str(relay.pk), desired(relay)
        config = self.zooid.relays.get(key)
        if relay.sync.is_stale or not relay.synced:
            error = relay.sync.last_error
            self.problems.append(f"{key}: not in sync ({error})")
        if self.zooid.is_served(key) is not bool(wanted and not wanted["inactive"]):
            self.problems.append(f"{key}: served is {self.zooid.is_served(key)}")
        if not config or not wanted or wanted["inactive"]:
            # Of a relay that is off, nobody can see what others have changed.
            return
        if config["secret"] != relay.secret.reveal():
            self.problems.append(f"{key}: other secret")
        shown = {name: config[name] for name in config if name != "secret"}
        if missing := difference(wanted, shown):
            self.problems.append(f"{key}: zooid lacks {missing}")
        for word in WORDS:
            last = self.written[key, word][-1:]
            if last and config["info"][word] != last[0]:
                self._check_words(key, word, config["info"][word])

    def _check_words(self, key: str, word: str, text: str) -> None:
        """Require a word that is not the last one to be the last that was written here.

        Changed at both places before they met, ours stays.
        """
        here = [
            each
            for each in self.written[key, word]
            if "here-" in each and "there-" not in each
        ]
        if text != (here[-1:] or [""])[0]:
            self.problems.append(f"{key}: {word} is {text}")


def _set_word(relay_id: UUID, *, word: str, text: str) -> None:
    lifecycle.update_relay(relay_id=relay_id, **{word: text})


def _deadly(call: Callable[..., Any]) -> Callable[..., Any]:
    def call_and_die(self: Client, *args: Any) -> Any:
        for method, original in _CALLS.items():
            setattr(Client, method, original)
        call(self, *args)
        raise Killed

    return call_and_die


_CALLS = {
    name: getattr(Client, name)
    for name in ("create_relay", "patch_relay", "delete_relay")
}
_STEPS: list[Callable[[History], None]] = [
    *[History._edit_here] * 3,
    *[History._edit_there] * 3,
    *[History._switch] * 2,
    *[History._rename] * 2,
    History._change_plan,
    *[History._change_status] * 3,
    History._delete,
    History._go_away,
    *[History._come_back] * 2,
    *[History._lose_answers] * 2,
    History._be_slow,
    History._start_again,
    History._kill_worker,
    History._write_by_hand,
]
TIMEOUT = 0.15
