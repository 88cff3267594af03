"""Relays that one worker provisions and probes. Needs django.setup()."""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import requests
from django.conf import settings
from django.utils import timezone

from benchmarks.support import worker
from benchmarks.support.worker import Worker
from caravel.nostr import generate_secret_key, pubkey_of
from relays import tasks
from relays.models import Plan, Relay, RelaySync
from relays.services.provisioning import configuration, probes, sync
from relays.services.provisioning.configuration import WORDS
from tenants.models import Tenant

#: Relays that are measured one after the other.
SINGLE = 20
#: Seconds to wait for the worker.
TIMEOUT = 300.0
_POLL = 0.05


@dataclass(frozen=True)
class Measurement:
    """The work of one worker, and the rate of the same work one after the other."""

    name: str
    number: int
    seconds: float
    single_rate: float
    #: Relays that were written again, or taken for changed.
    faults: int

    @property
    def rate(self) -> float:
        """Relays per second."""
        return self.number / self.seconds


def use(url: str) -> None:
    """Use the zooid at `url`, here and in the processes that are started."""
    settings.ZOOID_API_URL = settings.ZOOID_RELAYS_URL = url
    os.environ.update(ZOOID_API_URL=url, ZOOID_RELAYS_URL=url)


def provision(number: int, env: Mapping[str, str], log: Path) -> Measurement:
    """Measure one worker that provisions relays, after one that wakes it up."""
    first, *relays = _create(number + SINGLE + 1)
    RelaySync.objects.bulk_create(
        RelaySync(relay=relay, version=1) for relay in relays[:SINGLE]
    )
    single_rate = _rate(
        [partial(sync.sync_relay, relay_id=each.pk) for each in relays[:SINGLE]]
    )
    unsynced = Relay.objects.filter(synced=False)
    with _running(env, log, wake_up=first) as running:
        _enqueue(relays[SINGLE:])
        started = time.monotonic()
        _wait_until(running, lambda: not unsynced.exists())
        seconds = time.monotonic() - started
    return Measurement("provisioned", number, seconds, single_rate, _written_again())


def probe(env: Mapping[str, str], log: Path) -> Measurement:
    """Measure one worker that probes all relays of the state, and one more."""
    first, *singles = RelaySync.objects.order_by("pk")[: SINGLE + 1]
    single_rate = _rate(
        [partial(probes.probe_relays, relay_ids=[each.pk]) for each in singles]
    )
    RelaySync.objects.update(probed_at=None)
    Relay.objects.update(served_at=None)
    number = RelaySync.objects.count()
    unseen = Relay.objects.filter(served_at=None)
    with _running(env, log, wake_up=first.relay) as running:
        started = time.monotonic()
        tasks.probe_relays()
        _wait_until(running, lambda: not unseen.exists())
        seconds = time.monotonic() - started
    wrong = Relay.objects.filter(synced=False).count()
    return Measurement("probed", number, seconds, single_rate, wrong)


def write_state(number: int, path: Path) -> None:
    """Replace all relays by some that are in sync with a zooid with this state."""
    Relay.objects.all().delete()
    relays = _create(number)
    configs: dict[str, Any] = {}
    syncs = []
    for relay in relays:
        config = configuration.desired(relay)
        assert config is not None
        configs[str(relay.pk)] = {**config, "secret": relay.secret.reveal()}
        syncs.append(
            RelaySync(
                relay=relay,
                version=1,
                synced_version=1,
                acknowledged=json.dumps(config),
                digest=configuration.digest(config),
                host=config["host"],
                words_seen={word: config["info"][word] for word in WORDS},
            )
        )
    now = timezone.now()
    Relay.objects.update(synced=True, first_served_at=now, served_at=now)
    RelaySync.objects.bulk_create(syncs, batch_size=1_000)
    path.write_text(json.dumps({"configs": configs, "members": {}}))


def _create(number: int) -> list[Relay]:
    """Create relays, five for each tenant."""
    keys = [pubkey_of(generate_secret_key()) for _ in range(0, number, 5)]
    Tenant.objects.bulk_create(Tenant(pk=key) for key in keys)
    plan = Plan.objects.get(pk="basic")
    relays = [
        Relay(
            tenant_id=keys[count // 5],
            plan=plan,
            subdomain=f"r{count}",
            name=f"Relay {count}",
        )
        for count in range(number)
    ]
    Relay.objects.bulk_create(relays, batch_size=1_000)
    rows = Relay.objects.select_related("plan", "tenant").prefetch_related("exports")
    return list(rows.filter(tenant__in=keys))


def _enqueue(relays: Sequence[Relay]) -> None:
    RelaySync.objects.bulk_create(RelaySync(relay=relay, version=1) for relay in relays)
    tasks.sweep_relay_syncs()


@contextmanager
def _running(env: Mapping[str, str], log: Path, *, wake_up: Relay) -> Iterator[Worker]:
    """Run the worker, and wait until it has synced a relay."""
    RelaySync.objects.filter(relay=wake_up).delete()
    Relay.objects.filter(pk=wake_up.pk).update(synced=False)
    with worker.running(env, log=log) as running:
        _enqueue([wake_up])
        synced = Relay.objects.filter(pk=wake_up.pk, synced=True)
        _wait_until(running, synced.exists)
        yield running


def _wait_until(running: Worker, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        running.watch()
        if time.monotonic() > deadline:
            raise RuntimeError("the worker has not done its work")
        time.sleep(_POLL)


def _rate(work: Sequence[Callable[[], object]]) -> float:
    started = time.monotonic()
    for each in work:
        each()
    return len(work) / (time.monotonic() - started)


def _written_again() -> int:
    """Return the number of relays that zooid has built more than once."""
    response = requests.get(f"{settings.ZOOID_API_URL}/_sandbox/relays", timeout=60)
    relays: dict[UUID, Any] = response.json()
    return sum(relay["reloads"] != 1 for relay in relays.values())
