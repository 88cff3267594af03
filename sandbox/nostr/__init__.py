"""A Nostr relay that stores events of every kind, with faults on request."""

from sandbox.nostr.relay import SandboxRelay, running_relay
from sandbox.nostr.settings import RelaySettings

__all__ = ["RelaySettings", "SandboxRelay", "running_relay"]
