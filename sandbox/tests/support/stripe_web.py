"""Short ways to the sandbox's pages, as a browser would ask for them."""

import re
from collections.abc import Mapping
from html import unescape
from urllib.parse import urlsplit

import requests


def words(page: str) -> str:
    """Return the text of a page, without its markup and line breaks."""
    bare = unescape(re.sub(r"<[^>]+>", " ", page))
    return re.sub(r"\s+", " ", bare)


def part(page: str, name: str) -> str:
    """Return one section of a page."""
    found = re.search(rf'<section id="{name}".*?</section>', page, re.DOTALL)
    assert found, name
    return found.group()


def fetch(url: str) -> requests.Response:
    """Return the answer for a page."""
    return requests.get(url, timeout=20)


def submit(
    url: str, form: Mapping[str, str], *, follow: bool = True, **headers: str
) -> requests.Response:
    """Post a form as the page does, and follow where it leads."""
    parts = urlsplit(url)
    return requests.post(
        url,
        data=form,
        headers={"Origin": f"{parts.scheme}://{parts.netloc}", **headers},
        allow_redirects=follow,
        timeout=20,
    )
