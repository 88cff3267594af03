"""A stand-in for the management API of zooid, the server that hosts the relays.

`python -m sandbox.zooid`, or `with running_zooid() as zooid: …`. It serves no relay.
"""

from sandbox.zooid.api import Zooid
from sandbox.zooid.server import CannotListen, running_zooid

__all__ = ["CannotListen", "Zooid", "running_zooid"]
