"""Authentication to one relay (NIP-42), with any number of keys.

https://github.com/nostr-protocol/nips/blob/master/42.md
"""

import asyncio
from collections.abc import Collection, Iterable
from contextlib import suppress

from caravel.nostr.events import sign_event
from caravel.nostr.relays.acknowledgements import Acknowledgements
from caravel.nostr.relays.background import ConnectionLost
from caravel.nostr.relays.dial import Endpoint, RelayUnreachable

_AUTH_KIND = 22242
#: Seconds to wait for the relay's challenge, and for its OK.
_TIMEOUT = 3.0
#: Maximum length of a challenge, which is signed and sent back.
_MAX_CHALLENGE = 1_000


class AuthenticationFailed(RelayUnreachable):
    """The relay requires authentication, but sends no challenge or refuses the key."""

    code = "relay-authentication-failed"


class Authentication:
    """Proofs of keys over one connection. NIP-42: a relay must accept several."""

    def __init__(
        self,
        endpoint: Endpoint,
        acknowledgements: Acknowledgements,
    ) -> None:
        self._endpoint = endpoint
        self._acknowledgements = acknowledgements
        self._challenge = ""
        self._has_challenge = asyncio.Event()
        self._running: dict[str, asyncio.Task[None]] = {}
        #: Keys that were sent over this connection, and the latest that was accepted.
        self._used_keys: set[str] = set()
        self._latest_key = ""

    def reset(self) -> None:
        """Forget the challenge and the keys of the previous connection."""
        self._challenge = self._latest_key = ""
        self._used_keys.clear()
        self._has_challenge.clear()

    def on_challenge(self, challenge: str) -> None:
        """Store the relay's latest challenge."""
        if len(challenge) <= _MAX_CHALLENGE:
            self._challenge = challenge
            self._has_challenge.set()

    def may_help(self, reason: str, secret_keys: Collection[str]) -> bool:
        """Return whether a refusal for this reason may end by authenticating."""
        # Some relays keep only the latest key, against NIP-42.
        is_other_key = any(key != self._latest_key for key in secret_keys)
        is_restricted = reason.startswith("restricted:") and bool(self._challenge)
        is_required = reason.startswith("auth-required:")
        return bool(secret_keys) and (is_required or (is_restricted and is_other_key))

    async def prove(self, secret_keys: Collection[str]) -> None:
        """Authenticate with each key.

        Raises AuthenticationFailed if the relay accepts none of them.
        """
        proofs = [asyncio.shield(self._proof(key)) for key in secret_keys]
        results = await asyncio.gather(*proofs, return_exceptions=True)
        errors = [result for result in results if result is not None]
        if len(errors) == len(results):
            raise errors[0]

    async def prove_further(self, secret_keys: Iterable[str]) -> None:
        """Authenticate with further keys, if the relay has asked for one before.

        It may hold back the events of a key without saying so.
        """
        new_keys = [key for key in secret_keys if key not in self._used_keys]
        if self._used_keys and new_keys:
            # The relay's answer to the next message says what is still missing.
            with suppress(RelayUnreachable, ConnectionLost):
                await self.prove(new_keys)

    def _proof(self, secret_key: str) -> asyncio.Task[None]:
        """Return the task that proves a key, which all users of the key share."""
        if secret_key not in self._running:
            task = asyncio.create_task(self._prove(secret_key))
            self._running[secret_key] = task
            task.add_done_callback(lambda _: self._running.pop(secret_key))
        return self._running[secret_key]

    async def _prove(self, secret_key: str) -> None:
        challenge = await self._wait()
        self._used_keys.add(secret_key)
        tags = [("relay", self._endpoint.url), ("challenge", challenge)]
        event = sign_event(secret_key, kind=_AUTH_KIND, content="", tags=tags)
        try:
            async with asyncio.timeout(_TIMEOUT):
                accepted, reason = await self._acknowledgements.send("AUTH", event)
        except TimeoutError:
            # The OK is not mandatory. Without the key the relay refuses again.
            return
        if not accepted:
            raise self._failure(f"refused the key: {reason}")
        self._latest_key = secret_key

    async def _wait(self) -> str:
        """Return the challenge. A relay may send it after its first refusal."""
        try:
            async with asyncio.timeout(_TIMEOUT):
                await self._has_challenge.wait()
        except TimeoutError:
            raise self._failure("sent no challenge") from None
        return self._challenge

    def _failure(self, problem: str) -> AuthenticationFailed:
        host = self._endpoint.host
        return AuthenticationFailed(f"The relay {host} wants NIP-42, and {problem}.")
