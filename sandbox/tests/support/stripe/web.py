"""Requests to the sandbox's pages, and access to their contents."""

import re
from collections.abc import Mapping
from html import unescape
from urllib.parse import urlsplit

import requests


def words(page: str) -> str:
    """Return the text of a page, without its markup and line breaks."""
    text = unescape(re.sub(r"<[^>]+>", " ", page))
    return re.sub(r"\s+", " ", text)


def part(page: str, name: str) -> str:
    """Return one section of a page."""
    section = re.search(rf'<section id="{name}".*?</section>', page, re.DOTALL)
    assert section, name
    return section.group()


def fetch(url: str) -> requests.Response:
    """Return the response for a page."""
    return requests.get(url, timeout=60)


def submit(
    url: str, form: Mapping[str, str], *, follow: bool = True, **headers: str
) -> requests.Response:
    """Post a form like a browser, and follow redirects by default."""
    parts = urlsplit(url)
    return requests.post(
        url,
        data=form,
        headers={"Origin": f"{parts.scheme}://{parts.netloc}", **headers},
        allow_redirects=follow,
        timeout=60,
    )
