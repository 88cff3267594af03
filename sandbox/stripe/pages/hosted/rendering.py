"""Rendering of the pages for customers, from the templates in `templates/hosted`."""

from typing import Any
from urllib.parse import urlsplit

from sandbox.common.html.responses import html
from sandbox.common.html.templates import environment
from sandbox.common.http import Response
from sandbox.stripe.money import currencies
from sandbox.stripe.objects import page_urls
from sandbox.stripe.objects.schemas import test_cards

# The names of the layout have defaults, since few pages set them.
TEMPLATES = environment(
    "sandbox.stripe.pages",
    back=None,
    error="",
    invoice_path=page_urls.INVOICE_PATH,
    notice="",
    refresh="",
    return_url=None,
    text=None,
    test_cards=test_cards.CARDS,
)
TEMPLATES.filters.update(host=lambda url: urlsplit(url).netloc, money=currencies.text)


def render(template: str, *, status: int = 200, **data: Any) -> Response:
    """Return the page of a template."""
    page = TEMPLATES.get_template(f"hosted/{template}.html").render(data)
    return html(status, page)


def not_found(noun: str) -> Response:
    """Return the page for an unknown token."""
    text = "The address is incomplete, or the sandbox has been reset."
    return render("message", status=404, heading=f"{noun} not found", text=text)


def web_address(text: str | None) -> str | None:
    """Return the text if it is an http or https URL, else None."""
    # A link with a `javascript:` URL would run a script in the page.
    try:
        parts = urlsplit(text or "")
    except ValueError:
        return None
    return text if parts.scheme in ("http", "https") and parts.netloc else None
