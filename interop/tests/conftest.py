"""Fixtures: a counterpart's client, wallet service and relay; and the matrix."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from interop.tests.support.clients import Client, ClientError
from interop.tests.support.counterparts import COUNTERPARTS, Counterpart, Relay
from interop.tests.support.known_faults import KNOWN_FAULTS, UNTESTABLE
from interop.tests.support.matrix import Matrix, case_of
from interop.tests.support.scripts import stop_scripts
from interop.tests.support.services import BOTH, WalletService
from lightning.clients import nwc
from lightning.tests.support.fixtures import _prices, prices, wallets
from sandbox.wallets import Wallet, Wallets

__all__ = ["_prices", "prices", "wallets"]

BALANCE = 10**9
#: The failures of a case; any other error is not the expected one.
_MISSED = (AssertionError, ClientError, pytest.fail.Exception, TimeoutError)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Matrix(), "interop-matrix")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "counterpart" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("counterparts")
    counterparts = marker.args[0] if marker else COUNTERPARTS
    metafunc.parametrize("counterpart", counterparts, ids=str, scope="function")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    cells = {item: cell for item in items if (cell := case_of(item.nodeid))}
    hopeless = [item for item, (_, name) in cells.items() if name in UNTESTABLE]
    config.hook.pytest_deselected(items=hopeless)
    items[:] = [item for item in items if item not in hopeless]
    for item in items:
        if item in cells and (fault := KNOWN_FAULTS.get(cells[item])):
            item.add_marker(
                pytest.mark.xfail(reason=str(fault), strict=True, raises=_MISSED)
            )


@pytest.fixture(scope="session", autouse=True)
def _scripts() -> Iterator[None]:
    yield
    stop_scripts()


@pytest.fixture(autouse=True)
def _no_long_wait(request: pytest.FixtureRequest, monkeypatch) -> None:
    """Shorten Caravel's time-out in a case that cannot pass."""
    if request.node.get_closest_marker("xfail"):
        monkeypatch.setattr(nwc, "TIMEOUT", 3.0)


@pytest.fixture
def relay(counterpart: Counterpart) -> Iterator[Relay]:
    with counterpart.relay() as relay:
        yield relay


@pytest.fixture
def bob(wallets: Wallets) -> Wallet:
    """A wallet of the sandbox that issues and pays by hand."""
    return wallets.create("bob", balance_msat=BALANCE)


@pytest.fixture
def serve(
    wallets: Wallets, counterpart: Counterpart
) -> Iterator[Callable[..., WalletService]]:
    """Start a wallet of the counterpart's service, until the test ends."""
    with ExitStack() as stack:

        def serve(*, balance_msat=BALANCE, schemes=BOTH) -> WalletService:
            # It goes online when the service starts, so that only one serves it.
            wallet = wallets.create("alice", balance_msat=balance_msat, online=False)
            service = counterpart.service(wallet, schemes)
            stack.callback(service.stop)
            service.start()
            return service

        yield serve


@pytest.fixture
def service(serve: Callable[..., WalletService]) -> WalletService:
    """The tested wallet, `alice`."""
    return serve()


@pytest.fixture
def connect(counterpart: Counterpart) -> Iterator[Callable[[str], Client]]:
    """Connect the counterpart's client to a wallet URL, until the test ends."""
    with ExitStack() as stack:

        def connect(url: str) -> Client:
            client = counterpart.client(url)
            stack.callback(client.close)
            return client

        yield connect


@pytest.fixture
def client(connect: Callable[[str], Client], service) -> Client:
    """The counterpart's client of the tested wallet."""
    return connect(service.url)
