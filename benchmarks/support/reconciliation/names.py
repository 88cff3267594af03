"""Names of the template and its copies."""

import re
from dataclasses import dataclass

#: All numbers of copies have this many digits.
DIGITS = 14
#: Seconds between the creations of two subscriptions.
INTERVAL = 60
#: Copies are older than the template, which is the newest as if it had this number.
NEWEST = 250_000


@dataclass(frozen=True)
class Template:
    """The names that differ between the copies."""

    pubkey: str
    relay: str
    subdomain: str
    customer: str
    subscription: str
    invoice: str
    #: When the first copy was created, in Unix seconds.
    created: int

    def names(self, number: int) -> dict[str, str]:
        """Return the names of a copy by those of the template."""
        digits = f"{number:0{DIGITS}}"
        return {
            self.pubkey: f"{number:064x}",
            self.customer: f"cus_{digits}",
            self.subscription: f"sub_{digits}",
            self.invoice: f"in_{digits}",
        }

    def created_at(self, number: int) -> int:
        """Return when a copy was created, in Unix seconds."""
        return self.created + number * INTERVAL


def rename(template: Template, text: str, number: int) -> str:
    """Return a JSON text of the template as that of a copy."""
    for old, new in template.names(number).items():
        text = text.replace(old, new)
    created = f'"created":{template.created_at(number)}'
    return re.sub(r'"created": ?\d+', created, text)
