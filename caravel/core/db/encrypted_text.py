"""Model field for text that is encrypted at rest."""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.db import models
from django.db.models.query_utils import DeferredAttribute

from caravel.core.exceptions import CaravelError


class Undecryptable(CaravelError):
    """None of ENCRYPTION_KEYS decrypts the stored value."""

    code = "secret-undecryptable"
    status = 500


class Secret:
    """Encrypted text. Only `reveal()` returns the plain text; printing never does."""

    __slots__ = ("token",)

    def __init__(self, token: str) -> None:
        self.token = token

    @classmethod
    def seal(cls, text: str) -> "Secret":
        """Encrypt a text with the first of ENCRYPTION_KEYS; "" stays ""."""
        return cls(_cipher().encrypt(text.encode()).decode() if text else "")

    def reveal(self) -> str:
        """Return the plain text. Raises Undecryptable."""
        if not self.token:
            return ""
        try:
            return _cipher().decrypt(self.token.encode()).decode()
        except InvalidToken as exc:
            raise Undecryptable(
                "No key in ENCRYPTION_KEYS decrypts this value."
            ) from exc

    def rotated(self) -> "Secret":
        """Return the text re-encrypted with the first key. Raises Undecryptable."""
        if not self.token:
            return self
        try:
            return Secret(_cipher().rotate(self.token.encode()).decode())
        except InvalidToken as exc:
            raise Undecryptable(
                "No key in ENCRYPTION_KEYS decrypts this value."
            ) from exc

    def __bool__(self) -> bool:
        return bool(self.token)

    def __repr__(self) -> str:
        return "<secret>" if self.token else "<no secret>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.token == other.token

    def __hash__(self) -> int:
        return hash(self.token)


def _cipher() -> MultiFernet:
    return _cipher_for(tuple(settings.ENCRYPTION_KEYS))


@lru_cache(maxsize=4)
def _cipher_for(keys: Sequence[str]) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in keys])


class _EncryptingDescriptor(DeferredAttribute):
    """Encrypts on assignment, so that a model instance never holds plain text."""

    def __set__(self, instance: models.Model, value: "str | Secret | None") -> None:
        sealed = value if isinstance(value, Secret) else Secret.seal(value or "")
        instance.__dict__[self.field.attname] = sealed


if TYPE_CHECKING:
    _TextField = models.TextField[str | Secret, Secret]
else:
    _TextField = models.TextField


class EncryptedTextField(_TextField):
    """Text stored as a Fernet token and read as a `Secret`.

    Accepts plain text or a `Secret` on assignment.
    """

    descriptor_class = _EncryptingDescriptor

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("blank", True)
        kwargs.setdefault("default", "")
        # Never in a form: a secret must not reach an admin page.
        kwargs["editable"] = False
        super().__init__(**kwargs)

    def from_db_value(self, value: str, *args: object) -> Secret:
        return Secret(value)

    def to_python(self, value: "str | Secret | None") -> Any:
        return value if isinstance(value, Secret) else Secret.seal(value or "")

    def get_prep_value(self, value: "str | Secret | None") -> str:
        return (
            value.token if isinstance(value, Secret) else Secret.seal(value or "").token
        )

    def value_to_string(self, obj: models.Model) -> str:
        secret: Secret = self.value_from_object(obj)
        return secret.token
