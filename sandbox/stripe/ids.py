"""Object ids in Stripe's form."""

import random
import string
from typing import Any

ALPHABET = string.ascii_letters + string.digits
# Turns random bytes into letters and digits: far quicker than to choose each.
LETTERS = "".join(ALPHABET[byte % len(ALPHABET)] for byte in range(256)).encode()


class Ids:
    """Makes ids; with a seed, the same ones in every run."""

    def __init__(self, seed: int | None = None, *, used: int = 0) -> None:
        """Begin; `used` counts what has ids already, and leads elsewhere."""
        self._random = random.Random(
            f"{seed}+{used}" if used and seed is not None else seed
        )

    def new(self, prefix: str, length: int = 24) -> str:
        """Return `prefix_` and `length` random letters and digits."""
        letters = self._random.randbytes(length).translate(LETTERS)
        return f"{prefix}_{letters.decode()}"

    def invoice_prefix(self) -> str:
        """Return eight upper-case letters and digits, as customers have."""
        return "".join(
            self._random.choices(string.ascii_uppercase + string.digits, k=8)
        )

    def state(self) -> Any:
        """Return where the generator stands."""
        return self._random.getstate()

    def restore(self, state: Any) -> None:
        """Go on from where the generator stood; JSON may have made lists of tuples."""
        version, numbers, gauss = state
        self._random.setstate((version, tuple(numbers), gauss))
