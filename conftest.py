"""Fixtures of all tests: sandboxes on real sockets, and a search for leaked secrets."""

import json
import logging
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import redis
from celery.signals import before_task_publish
from django.conf import settings
from pynostr.key import PrivateKey

from billing.clients.stripe import transport
from billing.clients.stripe.client import Stripe
from billing.services.customers import stripe_account
from billing.services.customers.catalog import ensure_prices
from billing.tests.support.saved_state import MAX_AGE, SavedState
from caravel.core.db.encrypted_text import Secret
from caravel.nostr import keys, pubkey_of
from caravel.tests.support import initial_rows, search, secret_scanner
from lightning.clients import nwc_uri
from relays.models import Plan
from sandbox.common.secrets import tracked
from sandbox.stripe.client.testing import Sandbox, running_sandbox
from sandbox.tests.support.stripe.conformance import (
    ConformanceChecker,
    check_conformance,
)
from sandbox.zooid import Zooid, running_zooid

Prices = dict[str, str]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Leave out what only `make search` runs, and start with the longest tests.

    No worker ends long after the others.
    """
    if not search.IS_LARGE:
        too_long = [item for item in items if item.get_closest_marker("only_large")]
        config.hook.pytest_deselected(items=too_long)
        items[:] = [item for item in items if item not in too_long]
    items.sort(key=lambda item: {"search", "longest"}.isdisjoint(names_of(item)))


def names_of(item: pytest.Item) -> set[str]:
    """Return the names of a test's markers."""
    return {marker.name for marker in item.iter_markers()}


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop() -> Generator[None, object, object]:
    """Record all logs, task messages and generated secrets of the run."""
    # Not used in production, and verbose.
    logging.getLogger("factory").setLevel(logging.INFO)
    with TemporaryDirectory(prefix="caravel-logs-") as directory:
        messages = secret_scanner.watch(Path(directory) / "celery-messages.log")
        run = secret_scanner.watch(Path(directory) / "run.log")
        with (
            collected_secrets(),
            recorded_messages(messages),
            secret_scanner.recording(run, logging.getLogger()),
        ):
            return (yield)


@pytest.fixture(scope="session", autouse=True)
def _no_secret_is_logged() -> Iterator[None]:
    """Fail at the end of the run if a log or a task message contains a secret.

    Searches the logs of all tests and of the processes that they started. Each worker
    of pytest-xdist searches its own.
    """
    yield
    for secret in tracked:
        secret_scanner.secrets.add(secret)
    run = next(path for path in secret_scanner.files if path.name == "run.log")
    secret_scanner.assert_recorded(run)
    leaks = secret_scanner.find_leaks(secret_scanner.files, secret_scanner.secrets)
    assert leaks == []


@contextmanager
def collected_secrets() -> Iterator[None]:
    """Add each secret to the scanner: configured, generated, encrypted or parsed."""
    for text in (settings.SECRET_KEY, *settings.ENCRYPTION_KEYS):
        secret_scanner.secrets.add_text(text)
    secret_scanner.secrets.add_text(settings.STRIPE_SECRET_KEY)
    for text in (*settings.STRIPE_WEBHOOK_SECRETS, *settings.ROBOT_WALLETS):
        secret_scanner.secrets.add_text(text)
        secret_scanner.secrets.add(text)
    secret_scanner.secrets.add(settings.ROBOT_SECRET)
    seal, parse, add = Secret.seal, nwc_uri._secret, secret_scanner.secrets.add

    class Key(PrivateKey):
        def hex(self) -> str:
            return add(super().hex())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "PrivateKey", Key)
        patch.setattr(Secret, "seal", staticmethod(lambda text: seal(add(text))))
        patch.setattr(nwc_uri, "_secret", lambda query: add(parse(query)))
        yield


@contextmanager
def recorded_messages(path: Path) -> Iterator[None]:
    """Write all task messages to a file; unlike logs they are not redacted."""
    with path.open("a") as log:

        def write(body: Any, headers: Any, **kwargs: Any) -> None:
            log.write(json.dumps([headers, body], default=str) + "\n")
            log.flush()

        before_task_publish.connect(write)
        try:
            yield
        finally:
            before_task_publish.disconnect(write)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup, django_db_blocker) -> Iterator[None]:
    with ExitStack() as stack:
        with django_db_blocker.unblock():
            stack.enter_context(initial_rows.restored_after_each_test())
        yield


@pytest.fixture(scope="session", autouse=True)
def _account_is_checked() -> None:
    """Start as a process that has compared its Stripe account with the database's.

    Tests have many accounts and databases; those of the check begin without.
    """
    stripe_account.process.is_checked = True


@pytest.fixture(scope="session")
def _sandbox() -> Iterator[tuple[Sandbox, ConformanceChecker]]:
    with running_sandbox() as sandbox, check_conformance(sandbox.app) as conformity:
        yield sandbox, conformity


@pytest.fixture(scope="session", autouse=True)
def _refusals_are_confirmed_at_once() -> None:
    """Confirm a wallet's refusal without a pause, also in the processes of tests.

    Tests of the pause set it.
    """
    settings.LIGHTNING_REFUSAL_PAUSE = 0


@pytest.fixture(scope="session", autouse=True)
def _relays_are_billed_unserved() -> None:
    """Bill relays that no zooid serves, since most tests of billing start none.

    Tests of provisioning, and the processes of tests, use the default.
    """
    settings.BILLING_SERVED_RELAYS_ONLY = False


@pytest.fixture
def sandbox(_sandbox, settings, monkeypatch) -> Iterator[Sandbox]:
    """An empty sandbox Stripe that the application uses.

    Fails the test if a request or a response does not match stripe-python's types.
    """
    stripe, conformity = _sandbox
    stripe.reset()
    settings.STRIPE_API_BASE = stripe.url
    settings.STRIPE_MAX_REQUESTS_PER_SECOND = 100_000
    monkeypatch.setattr(transport, "pause_for", lambda seconds: None)
    yield stripe
    stripe.clear_faults()
    assert conformity.pop_problems() == []


@pytest.fixture(scope="session")
def _last_prices() -> list[SavedState[Prices]]:
    """The prices that the last module used, if any."""
    return []


@pytest.fixture(scope="module")
def _saved_prices(
    _last_prices: list[SavedState[Prices]],
    _sandbox,
    django_db_setup,
    django_db_blocker,
) -> SavedState[Prices]:
    """Prices of an earlier module, or new ones before those get too old."""
    if not _last_prices or _last_prices[0].age > MAX_AGE / 2:
        with django_db_blocker.unblock():
            _last_prices[:] = [SavedState(_sandbox[0], _create_prices)]
    return _last_prices[0]


def _create_prices() -> Prices:
    return {price.plan_id: price.price_id for price in ensure_prices(Stripe())}


@pytest.fixture
def prices(sandbox, db, _saved_prices) -> Prices:
    """Ids of the Stripe Prices by plan id."""
    return dict(_saved_prices.restore())


@pytest.fixture
def priced_plans(db) -> None:
    """Paid plans with invented prices, so that they are sold without a sandbox."""
    for plan in Plan.objects.paid():
        Plan.objects.filter(pk=plan.pk).update(stripe_price_id=f"price_{plan.pk}")


@pytest.fixture(scope="session")
def _zooid() -> Iterator[Zooid]:
    with running_zooid(whitelist=[pubkey_of(settings.ROBOT_SECRET)]) as zooid:
        yield zooid


@pytest.fixture
def zooid(_zooid, settings) -> Iterator[Zooid]:
    """An empty sandbox zooid that accepts the robot."""
    settings.ZOOID_API_URL = settings.ZOOID_RELAYS_URL = _zooid.url
    yield _zooid
    _zooid.reset()


@pytest.fixture(scope="session")
def _redis() -> Iterator[redis.Redis]:
    """One connection for the whole run: to connect takes longer than to look."""
    with redis.from_url(settings.REDIS_URL) as client:
        yield client


@pytest.fixture(autouse=True)
def _empty_cache(_redis) -> Iterator[None]:
    """Remove cached values and rate limit counters after each test."""
    yield
    for pattern in ("caravel-cache*", "LIMITS:*"):
        if keys := _redis.keys(pattern):
            _redis.delete(*keys)
