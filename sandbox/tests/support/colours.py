"""Whether text stands out from its ground."""

import re

from playwright.sync_api import Page

LEAST = 4.5

# The colours of every text and of what is behind it.
COLOURS = """() => {
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (colour !== 'rgba(0, 0, 0, 0)') return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  return [...document.querySelectorAll('body *')]
    .filter((one) => [...one.childNodes].some((child) =>
      child.nodeType === Node.TEXT_NODE && child.nodeValue.trim()))
    .map((one) => [getComputedStyle(one).color, ground(one)]);
}"""


def faint(page: Page) -> set[tuple[str, str]]:
    """Return the colours of texts and grounds that are too much alike to read."""
    pairs = {(text, ground) for text, ground in page.evaluate(COLOURS)}
    return {pair for pair in pairs if contrast(*pair) < LEAST}


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours (WCAG 2, contrast ratio)."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    """Return how bright a colour is (WCAG 2, relative luminance)."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4
        for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
