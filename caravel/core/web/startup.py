"""Work of a web process before its threads serve requests."""

from django.utils.module_loading import import_string

#: Dotted names of functions without arguments; apps add their own.
BEFORE_SERVING: list[str] = []


def prepare() -> None:
    """Call the functions."""
    for name in BEFORE_SERVING:
        import_string(name)()
