"""What can go wrong with the embedded servers."""


class EmbeddedError(RuntimeError):
    """The embedded servers cannot be started or reached; the text says why."""


class AlreadyRunning(EmbeddedError):
    """Another process of the same checkout owns the servers."""
