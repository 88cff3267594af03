"""QR codes of Lightning invoices, as inline SVG."""

import segno


def qr_svg(bolt11: str) -> str:
    """Return the QR code of a bolt11 as an SVG element, with its quiet zone."""
    # BOLT 11 allows upper case. Two characters of it take 11 bits instead of 16, so the
    # modules are larger and easier to scan.
    code = segno.make(f"lightning:{bolt11}".upper(), error="l", micro=False)
    return code.svg_inline(
        border=4,
        omitsize=True,
        light="#fff",
        dark="#000",
        svgclass=None,
        lineclass=None,
    )
