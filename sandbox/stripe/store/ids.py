"""Object ids in Stripe's form."""

import random
import string
from typing import Any

ALPHABET = string.ascii_letters + string.digits
# Translation table from random bytes: far faster than choosing each character.
LETTERS = "".join(ALPHABET[byte % len(ALPHABET)] for byte in range(256)).encode()


class Ids:
    """Generator of ids; repeatable with a seed."""

    def __init__(self, seed: int | None = None, *, used: int = 0) -> None:
        """With a seed, `used` (the number of stored records) varies the sequence."""
        self._random = random.Random(
            f"{seed}+{used}" if used and seed is not None else seed
        )

    def new(self, prefix: str, length: int = 24) -> str:
        """Return `prefix_` and `length` random letters and digits."""
        letters = self._random.randbytes(length).translate(LETTERS)
        return f"{prefix}_{letters.decode()}"

    def invoice_prefix(self) -> str:
        """Return a customer's `invoice_prefix`: eight upper-case letters and digits."""
        return "".join(
            self._random.choices(string.ascii_uppercase + string.digits, k=8)
        )

    def state(self) -> Any:
        """Return the state of the generator."""
        return self._random.getstate()

    def restore(self, state: Any) -> None:
        """Restore the state of the generator."""
        # The generator wants tuples; a snapshot read from JSON has lists.
        version, numbers, gauss = state
        self._random.setstate((version, tuple(numbers), gauss))
