"""A stand-in for Lightning: a Nostr relay, wallets on it, price sources.

`python -m sandbox.lightning`, or `with running_lightning() as lightning: …`.
"""

from sandbox.common.server import CannotListen
from sandbox.lightning.server import running_lightning
from sandbox.lightning.stack import Lightning

__all__ = ["CannotListen", "Lightning", "running_lightning"]
