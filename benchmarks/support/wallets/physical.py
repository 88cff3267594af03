"""The least that a wallet payment takes on this machine, whatever the program.

One Schnorr signature, one key exchange with encryption, and one commit on disk.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

import coincurve

from caravel.nostr import generate_secret_key, pubkey_of
from caravel.nostr.encryption import Scheme, encrypt

#: Seconds for which each is repeated.
_SECONDS = 0.5
_PAGE = b"\0" * 8192


def signing_seconds() -> float:
    """Return the seconds of one Schnorr signature (BIP-340)."""
    key = coincurve.PrivateKey(bytes.fromhex(generate_secret_key()))
    return _mean(lambda: key.sign_schnorr(bytes(32)))


def encryption_seconds() -> float:
    """Return the seconds of one ECDH and encryption (NIP-44) of a request."""
    secret, other = generate_secret_key(), pubkey_of(generate_secret_key())
    return _mean(lambda: encrypt(Scheme.NIP44, secret, other, "x" * 400))


def commit_seconds(directory: Path) -> float:
    """Return the seconds of one page's way to the disk."""
    with (directory / "page").open("wb", buffering=0) as file:

        def commit() -> None:
            file.seek(0)
            file.write(_PAGE)
            os.fdatasync(file.fileno())

        return _mean(commit)


def _mean(work: Callable[[], object]) -> float:
    started_at, times = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - started_at) < _SECONDS:
        work()
        times += 1
    return elapsed / times
