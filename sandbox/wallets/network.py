"""One thread and one connection that serve all wallets."""

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Concatenate, ParamSpec

from sandbox.common.nostr import Event
from sandbox.wallets.messages import REQUEST
from sandbox.wallets.relay_connection import RelayConnection, RelayLost, RelayRefused
from sandbox.wallets.schedule import Schedule
from sandbox.wallets.wallet import Wallet

logger = logging.getLogger(__name__)
#: Seconds between two runs of the schedule.
POLL_INTERVAL = 0.05
#: Seconds to wait for a relay's answer.
RELAY_TIMEOUT = 5.0
#: Seconds to wait for the thread; longer means it hangs.
THREAD_TIMEOUT = 60.0
#: Relays limit the length of a message, so several subscriptions are needed.
WALLETS_PER_SUBSCRIPTION = 1_000


P = ParamSpec("P")


def in_loop(
    work: Callable[Concatenate["Network", P], Coroutine[Any, Any, None]],
) -> Callable[Concatenate["Network", P], None]:
    """Run a method in the event loop and wait for it; do nothing without the thread."""

    def run(network: "Network", /, *args: P.args, **kwargs: P.kwargs) -> None:
        if network.thread.is_alive():
            coroutine = work(network, *args, **kwargs)
            future = asyncio.run_coroutine_threadsafe(coroutine, network.loop)
            future.result(THREAD_TIMEOUT)

    return run


class Network:
    """Passes requests to `receive` and runs the scheduled actions.

    `wallets` maps public keys to the current wallets. Errors in wallets are collected
    in `failures`.
    """

    def __init__(
        self,
        url: str,
        *,
        wallets: Mapping[str, Wallet],
        schedule: Schedule,
        receive: Callable[[Wallet, Event, bool], None],
        timeout: float = RELAY_TIMEOUT,
    ) -> None:
        self.failures: list[BaseException] = []
        self._wallets = wallets
        self._schedule = schedule
        self._receive = receive
        self._timeout = timeout
        self._connection = RelayConnection(
            url,
            timeout=timeout,
            on_event=self._on_event,
            on_connect=self._update_subscriptions,
        )
        self._tasks: list[asyncio.Task[None]] = []
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, name="wallets", daemon=True)

    def start(self) -> None:
        """Start the thread; wait for the relay. Raises TimeoutError."""
        self.thread.start()
        self._wait_connected()

    def stop(self) -> None:
        """Disconnect from the relay and end the thread."""
        if self.thread.is_alive():
            self._disconnect()
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join()
        self.loop.close()

    @in_loop
    async def resubscribe(self) -> None:
        """Subscribe for the wallets that are online, and publish changed info events.

        Raises RelayRefused or TimeoutError; a disconnected relay gets them when it is
        back.
        """
        try:
            await self._update_subscriptions()
        except RelayLost:
            logger.debug("the relay is disconnected: updated on reconnect")
        except (RelayRefused, TimeoutError):
            # It may have closed a shared subscription; reconnecting opens it again.
            self._connection.hang_up()
            raise

    @in_loop
    async def catch_up(self, wallet: Wallet, heeds_expiration: bool) -> None:
        """Run a wallet's requests that the relay stored. Raises as `resubscribe`."""
        filters = [{"kinds": [REQUEST], "#p": [wallet.pubkey]}]
        for event in await self._connection.fetch(filters):
            self._run_isolated(self._receive, wallet, event, heeds_expiration)

    def send(self, event: Event) -> None:
        """Publish an event without waiting."""
        if self.thread.is_alive():
            message = "EVENT", event.to_dict()
            self.loop.call_soon_threadsafe(self._connection.send, *message)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        for work in (self._run_schedule(), self._connection.run()):
            self._tasks.append(self.loop.create_task(work))
            self._tasks[-1].add_done_callback(self._record_failure)
        self.loop.run_forever()

    def _run_isolated(self, work: Callable[..., object], *values: Any) -> None:
        """Call a function; its failure must not stop the other wallets."""
        try:
            work(*values)
        except Exception as exc:
            logger.exception("a wallet failed")
            self.failures.append(exc)

    async def _run_schedule(self) -> None:
        while True:
            self._run_isolated(self._schedule.run_due)
            await asyncio.sleep(POLL_INTERVAL)

    def _record_failure(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (failure := task.exception()):
            self.failures.append(failure)

    @in_loop
    async def _wait_connected(self) -> None:
        async with asyncio.timeout(self._timeout):
            await self._connection.ready.wait()

    @in_loop
    async def _disconnect(self) -> None:
        self._connection.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _update_subscriptions(self) -> None:
        connection = self._connection
        async with connection.lock:
            wallets = list(self._wallets.values())
            online = [wallet for wallet in wallets if wallet.is_listening]
            pubkeys = [wallet.pubkey for wallet in online]
            for start in range(0, len(wallets), WALLETS_PER_SUBSCRIPTION):
                share = pubkeys[start : start + WALLETS_PER_SUBSCRIPTION]
                # limit 0: stored requests are fetched by `catch_up` only.
                live = {"kinds": [REQUEST], "#p": share, "limit": 0}
                await connection.subscribe(f"wallets-{start}", [live] if share else [])
            announcing = [wallet for wallet in online if wallet.protocol.announces]
            await connection.publish([wallet.info() for wallet in announcing])

    def _on_event(self, event: Event) -> None:
        if event.kind != REQUEST:
            return
        for pubkey in event.values("p"):
            if wallet := self._wallets.get(pubkey):
                heeds_expiration = wallet.protocol.heeds_expiration
                self._run_isolated(self._receive, wallet, event, heeds_expiration)
