"""One thread that connects all wallets to their relays, once to each relay."""

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

from caravel.nostr.events import Event
from sandbox.wallets.link import Link, RelayLost, RelayRefused
from sandbox.wallets.messages import REQUEST
from sandbox.wallets.schedule import Schedule
from sandbox.wallets.wallet import Wallet

logger = logging.getLogger(__name__)
#: Seconds between two looks at the clock.
TICK = 0.05
#: Seconds for which a relay's answer is waited for.
PATIENCE = 5.0
#: Seconds after which the thread is taken for dead.
DEAD = 60.0
#: Wallets that share a subscription; relays limit the length of a message.
SHARE = 1_000


class Network:
    """Brings requests to `receive`, and runs what is due.

    `wallets` are those there are, by public key. What goes wrong inside is kept in
    `failures`.
    """

    def __init__(
        self,
        *,
        wallets: Mapping[str, Wallet],
        schedule: Schedule,
        receive: Callable[[Wallet, Event, bool | None], None],
        patience: float = PATIENCE,
    ) -> None:
        self.failures: list[BaseException] = []
        self._wallets = wallets
        self._schedule = schedule
        self._receive = receive
        self._patience = patience
        self._links: dict[str, Link] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="wallets", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Disconnect from the relays and end the thread."""
        if self._thread.is_alive():
            self._call(self._disconnect())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()

    def dial(self, urls: Iterable[str]) -> None:
        """Connect to these relays, now or once they are there."""
        self._call(self._dial(urls))

    def join(self, urls: Iterable[str]) -> None:
        """Be connected to these relays. Raises TimeoutError when one is not there."""
        self._call(self._join(urls))

    def tune(self) -> None:
        """Listen for the wallets that listen, and publish what changed of them.

        Raises RelayRefused or TimeoutError; a relay that is away is told later.
        """
        self._call(self._tune_all())

    def catch_up(self, wallet: Wallet, *, heeds_expiration: bool) -> None:
        """Run the requests to a wallet that its relays stored. Raises as `tune`."""
        self._call(self._catch_up_everywhere(wallet, heeds_expiration))

    def send(self, wallet: Wallet, event: Event) -> None:
        """Publish an event on a wallet's relays, without waiting for them."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._send, wallet, event)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._tasks.append(self._loop.create_task(self._tick()))
        self._loop.run_forever()

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        if not self._thread.is_alive():
            work.close()
            return
        asyncio.run_coroutine_threadsafe(work, self._loop).result(DEAD)

    def _guard(self, work: Callable[..., object], *values: Any) -> None:
        """Do something for one wallet, whose failure must not stop the others."""
        try:
            work(*values)
        except Exception as exc:
            logger.exception("a wallet failed")
            self.failures.append(exc)

    async def _tick(self) -> None:
        while True:
            self._guard(self._schedule.run_due)
            await asyncio.sleep(TICK)

    async def _dial(self, urls: Iterable[str]) -> None:
        for url in urls:
            if url not in self._links:
                self._links[url] = Link(
                    url, patience=self._patience, hear=self._hear, greet=self._greet
                )
                task = self._loop.create_task(self._links[url].run())
                task.add_done_callback(self._note_end)
                self._tasks.append(task)

    async def _join(self, urls: Iterable[str]) -> None:
        await self._dial(urls)
        async with asyncio.timeout(self._patience):
            for url in urls:
                await self._links[url].greeted.wait()

    def _note_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (failure := task.exception()):
            self.failures.append(failure)

    async def _disconnect(self) -> None:
        for link in self._links.values():
            link.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _tune_all(self) -> None:
        for link in list(self._links.values()):
            try:
                await self._tune(link)
            except RelayLost:
                logger.debug("%s is told when it is back", link.url)
            except (RelayRefused, TimeoutError):
                # It may have ended the subscription of all; a greeting makes it anew.
                link.hang_up()
                raise

    async def _tune(self, link: Link) -> None:
        async with link.lock:
            here = [
                one for one in list(self._wallets.values()) if link.url in one.relays
            ]
            heard = [wallet.pubkey for wallet in here if wallet.listening]
            for start in range(0, len(here), SHARE):
                share = heard[start : start + SHARE]
                # Stored requests are asked for by those that want them.
                live = {"kinds": [REQUEST], "#p": share, "limit": 0}
                await link.subscribe(f"wallets-{start}", [live] if share else [])
            await link.publish([wallet.info() for wallet in here])

    async def _greet(self, link: Link) -> None:
        await self._tune(link)
        for wallet in list(self._wallets.values()):
            if wallet.protocol.asks_for_stored and link.url in wallet.relays:
                await self._catch_up(link, wallet, None)

    async def _catch_up_everywhere(self, wallet: Wallet, heeds: bool) -> None:
        for url in wallet.relays:
            await self._catch_up(self._links[url], wallet, heeds)

    async def _catch_up(self, link: Link, wallet: Wallet, heeds: bool | None) -> None:
        stored = await link.fetch([{"kinds": [REQUEST], "#p": [wallet.pubkey]}])
        for event in stored:
            self._guard(self._receive, wallet, event, heeds)

    def _hear(self, event: Event) -> None:
        if event.kind != REQUEST:
            return
        for pubkey in event.values("p"):
            if pubkey in self._wallets:
                self._guard(self._receive, self._wallets[pubkey], event, None)

    def _send(self, wallet: Wallet, event: Event) -> None:
        for url in wallet.relays:
            self._links[url].send("EVENT", event.to_dict())
