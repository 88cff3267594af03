"""Reading QR codes in a browser."""

import io

import zxingcpp
from PIL import Image
from playwright.sync_api import Page


def read_qr_code(page: Page) -> str:
    """Return the text of the QR code on the page."""
    shot = page.locator(".code").screenshot()
    (code,) = zxingcpp.read_barcodes(Image.open(io.BytesIO(shot)))
    return str(code.text)
