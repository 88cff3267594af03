"""Times on pages, which the browser shows in the reader's own zone."""

from datetime import datetime

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()


@register.simple_tag
def local_time(at: datetime) -> SafeString:
    """Return a `<time>` with the time in UTC, which `pay.js` makes local."""
    return format_html(
        '<time datetime="{}" data-local>{} UTC</time>',
        at.isoformat(timespec="seconds"),
        f"{at:%-d %B %Y, %H:%M}",
    )
