"""Errors of the embedded servers."""


class EmbeddedError(RuntimeError):
    """The embedded servers cannot be started or reached."""


class AlreadyRunning(EmbeddedError):
    """Another process of the same checkout owns the servers."""
