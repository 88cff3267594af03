"""Contrast of text and background in a page."""

import re
from typing import Literal

from playwright.sync_api import Page

MIN_CONTRAST = 4.5
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")

# Returns [text colour, background colour] of every element with text.
COLOURS = """() => {
  const background = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (colour !== 'rgba(0, 0, 0, 0)') return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  return [...document.querySelectorAll('body *')]
    .filter((one) => [...one.childNodes].some((child) =>
      child.nodeType === Node.TEXT_NODE && child.nodeValue.trim()))
    .map((one) => [getComputedStyle(one).color, background(one)]);
}"""


def low_contrast(page: Page) -> set[tuple[str, str, str]]:
    """Return each colour scheme with its colours of too little contrast.

    They are those of a text and of its background.
    """
    found: set[tuple[str, str, str]] = set()
    pairs: set[tuple[str, str]] = set()
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        others = pairs
        pairs = {(text, background) for text, background in page.evaluate(COLOURS)}
        assert pairs.isdisjoint(others), "the page ignores the colour scheme"
        found |= {(scheme, *pair) for pair in pairs if contrast(*pair) < MIN_CONTRAST}
    return found


def contrast(first: str, second: str) -> float:
    """Return the contrast ratio of two colours (WCAG 2)."""
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour (WCAG 2)."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4
        for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
