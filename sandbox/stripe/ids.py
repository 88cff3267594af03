"""Object ids in Stripe's form."""

import random
import string

ALPHABET = string.ascii_letters + string.digits


class Ids:
    """Makes ids; with a seed, the same ones in every run."""

    def __init__(self, seed: int | None = None) -> None:
        self._random = random.Random(seed)

    def new(self, prefix: str, length: int = 24) -> str:
        """Return `prefix_` and `length` random letters and digits."""
        return f"{prefix}_{''.join(self._random.choices(ALPHABET, k=length))}"

    def invoice_prefix(self) -> str:
        """Return eight upper-case letters and digits, as customers have."""
        return "".join(
            self._random.choices(string.ascii_uppercase + string.digits, k=8)
        )
