"""Reading the settings from the environment."""

import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

import environ
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured

from caravel.nostr.keys import InvalidPubkey, parse_pubkey


class Environment:
    """Collects what is missing, so that one start names all of it."""

    def __init__(self, values: Mapping[str, str], defaults: Mapping[str, str]) -> None:
        self._values = {name: value.strip() for name, value in values.items()}
        self._defaults = defaults
        self._faults: list[str] = []
        #: The names that fell back to a development default.
        self.defaulted: list[str] = []

    def is_set(self, name: str) -> bool:
        """Return whether the environment sets `name` to something not blank."""
        return bool(self._values.get(name))

    def required(self, name: str) -> str:
        """Return the value; a missing or blank one stops the start in `check()`."""
        if self.is_set(name):
            return self._values[name]
        if name in self._defaults:
            self.defaulted.append(name)
            return self._defaults[name]
        self._faults.append(f"{name} is missing or blank.")
        return ""

    def required_list(self, name: str) -> list[str]:
        """Return a comma-separated value of at least one; see `required`."""
        values = _split(self.required(name))
        if self.is_set(name) and not values:
            self.add_error(f"{name} is missing or blank.")
        return values

    def optional(self, name: str, default: str = "") -> str:
        """Return the value, or the default when it is missing or blank."""
        return self._values.get(name) or default

    def optional_list(self, name: str, default: list[str]) -> list[str]:
        """Return a comma-separated value; when blank, development's or the default."""
        if self.is_set(name) or name in self._defaults:
            return self.required_list(name)
        return default

    def pubkeys(self, name: str) -> list[str]:
        """Return a comma-separated value of public keys, hex or npub, as hex."""
        try:
            return [parse_pubkey(text) for text in self.optional_list(name, [])]
        except InvalidPubkey as exc:
            self.add_error(f"{name}: {exc.message}")
            return []

    def integer(self, name: str, default: int, *, least: int = 0) -> int:
        """Return a whole number of at least `least`."""
        text = self.optional(name, str(default))
        if text.lstrip("-").isdecimal() and int(text) >= least:
            return int(text)
        self._faults.append(f"{name} must be a whole number, {least} or more.")
        return default

    def boolean(self, name: str, default: bool = False) -> bool:
        """Return a truth value; `true`, `1`, `yes` and `on` are true."""
        text = self.optional(name, str(default)).lower()
        return text in environ.Env.BOOLEAN_TRUE_STRINGS

    def http_url(self, name: str) -> str:
        """Return a required http(s) address without a slash at its end."""
        value = self.required(name).rstrip("/")
        if value and not _is_http(value):
            self._faults.append(f"{name} must be an http(s) address.")
        return value

    def require_format(self, name: str, values: Iterable[str], pattern: str) -> None:
        """Note a fault unless each value that is there has the form of its kind."""
        form = re.compile(pattern, re.ASCII)
        if not all(form.fullmatch(value) for value in values if value):
            self.add_error(f"{name} is malformed.")

    def add_error(self, sentence: str) -> None:
        """Add something else that is wrong to what `check()` reports."""
        self._faults.append(sentence)

    def check(self) -> None:
        """Raise ImproperlyConfigured with all that is missing or malformed."""
        if self._faults:
            raise ImproperlyConfigured(
                "\n  ".join(
                    [
                        "Caravel cannot start:",
                        *self._faults,
                        "See .env.example, or set DEBUG=true for a development start.",
                    ]
                )
            )


def is_fernet_key(text: str) -> bool:
    """Return whether the text is a key that `Fernet` accepts."""
    try:
        Fernet(text)
    except ValueError:
        return False
    return True


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _is_http(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in {"http", "https"} and bool(parts.hostname)
