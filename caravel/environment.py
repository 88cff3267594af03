"""Read settings from environment variables."""

import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

import environ
from cryptography.fernet import Fernet
from django.core.checks.security.base import (
    SECRET_KEY_INSECURE_PREFIX,
    SECRET_KEY_MIN_LENGTH,
    SECRET_KEY_MIN_UNIQUE_CHARACTERS,
)
from django.core.exceptions import ImproperlyConfigured

from caravel.nostr.keys import InvalidPubkey, parse_pubkey


class Environment:
    """Environment variables; collects all errors so that one start reports them all."""

    def __init__(self, values: Mapping[str, str], defaults: Mapping[str, str]) -> None:
        self._values = {name: value.strip() for name, value in values.items()}
        self._defaults = defaults
        self._errors: list[str] = []
        #: Names of the settings that use a development default.
        self.defaulted: list[str] = []

    def is_set(self, name: str) -> bool:
        """Return whether the variable is set and not blank."""
        return bool(self._values.get(name))

    def required(self, name: str) -> str:
        """Return the value. If it is missing or blank, `check()` will raise."""
        if self.is_set(name):
            return self._values[name]
        if name in self._defaults:
            self.defaulted.append(name)
            return self._defaults[name]
        self._errors.append(f"{name} is missing or blank.")
        return ""

    def required_list(self, name: str, *, separator: str = ",") -> list[str]:
        """Return a list with at least one item; see `required`.

        `separator` is a regular expression.
        """
        parts = re.split(separator, self.required(name))
        values = [part.strip() for part in parts if part.strip()]
        if self.is_set(name) and not values:
            self.add_error(f"{name} is missing or blank.")
        return values

    def optional(self, name: str, default: str = "") -> str:
        """Return the value, its development default, or `default` if all are blank."""
        return self._values.get(name) or self._defaults.get(name) or default

    def optional_list(self, name: str, default: list[str]) -> list[str]:
        """Return a comma-separated list, its development default, or `default`."""
        if self.is_set(name) or name in self._defaults:
            return self.required_list(name)
        return default

    def pubkeys(self, name: str) -> list[str]:
        """Return a comma-separated list of public keys (hex or npub) as hex."""
        try:
            return [parse_pubkey(text) for text in self.optional_list(name, [])]
        except InvalidPubkey as exc:
            self.add_error(f"{name}: {exc.message}")
            return []

    def integer(self, name: str, default: int, *, minimum: int = 0) -> int:
        """Return an integer of at least `minimum`."""
        text = self.optional(name, str(default))
        if text.lstrip("-").isdecimal() and int(text) >= minimum:
            return int(text)
        self._errors.append(f"{name} must be a whole number, {minimum} or more.")
        return default

    def boolean(self, name: str, default: bool = False) -> bool:
        """Return a boolean; `true`, `1`, `yes` and `on` are true."""
        text = self.optional(name, str(default)).lower()
        return text in environ.Env.BOOLEAN_TRUE_STRINGS

    def http_url(self, name: str) -> str:
        """Return a required http(s) URL without a trailing slash."""
        value = self.required(name).rstrip("/")
        parts = urlsplit(value)
        is_http = parts.scheme in {"http", "https"} and parts.hostname
        if value and not is_http:
            self._errors.append(f"{name} must be an http(s) URL.")
        return value

    def require_format(self, name: str, values: Iterable[str], pattern: str) -> None:
        """Record an error unless each non-empty value matches the whole pattern."""
        compiled = re.compile(pattern, re.ASCII)
        if not all(compiled.fullmatch(value) for value in values if value):
            self.add_error(f"{name} is malformed.")

    def add_error(self, message: str) -> None:
        """Record an error for `check()` to raise."""
        self._errors.append(message)

    def check(self) -> None:
        """Raise ImproperlyConfigured with all recorded errors, if there are any."""
        if self._errors:
            raise ImproperlyConfigured(
                "\n  ".join(
                    [
                        "Caravel cannot start:",
                        *self._errors,
                        "See .env.example, or set DEBUG=true for a development start.",
                    ]
                )
            )


def is_fernet_key(text: str) -> bool:
    """Return whether `Fernet` accepts the text as a key."""
    try:
        Fernet(text)
    except ValueError:
        return False
    return True


def is_weak_secret(text: str) -> bool:
    """Return whether a secret is short or repetitive, by Django's own measure."""
    # security.W009, which only `manage.py check --deploy` reports.
    return bool(text) and (
        len(text) < SECRET_KEY_MIN_LENGTH
        or len(set(text)) < SECRET_KEY_MIN_UNIQUE_CHARACTERS
        or text.startswith(SECRET_KEY_INSECURE_PREFIX)
    )
