"""QR codes of Lightning invoices, as pictures that a page has inside."""

import segno


def qr_svg(bolt11: str) -> str:
    """Return the code of an invoice as an SVG element, black on white with its margin.

    In capitals, which a bolt11 allows (BOLT 11): then two characters take 11 bits
    instead of 16, and the squares are larger.
    """
    code = segno.make(f"lightning:{bolt11}".upper(), error="l", micro=False)
    return code.svg_inline(
        border=4,
        omitsize=True,
        light="#fff",
        dark="#000",
        svgclass=None,
        lineclass=None,
    )
