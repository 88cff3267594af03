"""A stand-in for all of Lightning: a Nostr relay, wallets over it, exchanges.

`python -m sandbox.lightning`, or `with running_lightning() as lightning: …`.
"""

from sandbox.lightning.sandbox import CannotListen, Lightning, running_lightning

__all__ = ["CannotListen", "Lightning", "running_lightning"]
