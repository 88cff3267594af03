"""A stand-in for zooid, the server that hosts the relays.

`python -m sandbox.zooid`, or `with running_zooid() as zooid: …`.
"""

from sandbox.zooid.relays.instances import Panic
from sandbox.zooid.server import CannotListen, running_zooid
from sandbox.zooid.zooid import Zooid

__all__ = ["CannotListen", "Panic", "Zooid", "running_zooid"]
