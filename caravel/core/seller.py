"""The seller: the person or company that tenants pay, as named to them."""

import re
from dataclasses import dataclass

from django.conf import settings
from django.http import HttpRequest

_EMAIL = re.compile(r"[^\s@]+@[^\s@]+")
_URL = re.compile(r"https?://\S+")


@dataclass(frozen=True)
class Seller:
    """Seller on pages, messages and receipts; all but the name may be ""."""

    name: str
    address: str
    tax_id: str
    contact: str

    @property
    def contact_url(self) -> str:
        """The link to the contact, "" if it is neither an address nor a URL."""
        if _EMAIL.fullmatch(self.contact):
            return f"mailto:{self.contact}"
        return self.contact if _URL.fullmatch(self.contact) else ""

    @property
    def signature(self) -> str:
        """The seller as the last lines of a message."""
        lines = (self.name, self.address, self.tax_id, self.contact)
        return "\n".join(line for line in lines if line)


def get_seller() -> Seller:
    """Return the seller as the settings name it now."""
    return Seller(
        name=settings.SELLER_NAME,
        address=settings.SELLER_ADDRESS,
        tax_id=settings.SELLER_TAX_ID,
        contact=settings.SELLER_CONTACT,
    )


def seller_context(request: HttpRequest) -> dict[str, Seller]:
    """Django's context processor: `seller` in every template."""
    return {"seller": get_seller()}
