"""axe-core on a page, in light and dark."""

from typing import Literal

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

SERIOUS = ("serious", "critical")
#: The rules of axe-core, of those that it applies by default, that look at colours.
COLOUR_RULES = ["color-contrast", "link-in-text-block"]


def set_scheme(page: Page, scheme: Literal["light", "dark"]) -> None:
    """Set the colour scheme; buttons would take a moment to get their new colours."""
    page.emulate_media(color_scheme=scheme)
    page.evaluate(
        """document.getAnimations().forEach((animation) => {
          if (animation instanceof CSSTransition) animation.finish();
        })"""
    )


def violations(page: Page) -> list[str]:
    """Return the serious and critical violations that axe-core finds.

    In the dark scheme only the colours are different.
    """
    set_scheme(page, "light")
    results = Axe().run(page).response
    set_scheme(page, "dark")
    dark = page.evaluate("(rules) => axe.run({runOnly: rules})", COLOUR_RULES)
    set_scheme(page, "light")
    return [
        f"{violation['id']}: {violation['nodes'][0]['html']}"
        for violation in (*results["violations"], *dark["violations"])
        if violation["impact"] in SERIOUS
    ]
