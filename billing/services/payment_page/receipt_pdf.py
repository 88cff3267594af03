"""A receipt as a PDF, with the signed receipt attached."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast

from fpdf import FPDF
from fpdf.enums import XPos, YPos
from fpdf.fonts import TTFFont

from billing.money import format_amount
from billing.services.invoice_views.invoices import InvoiceDetails
from billing.services.invoice_views.receipts import Receipt
from billing.services.payment_page.details import page_lines
from billing.services.payment_page.receipt import ReceiptLine, receipt_lines
from caravel.core.seller import Seller
from caravel.nostr import npub

#: PDF's own fonts have Western European letters only.
_FONT = Path(__file__).resolve().parents[2] / "fonts" / "DejaVuSans.ttf"
_GREY, _BLACK = (95, 95, 95), (0, 0, 0)
#: Millimetres.
_MARGIN, _TITLE_WIDTH = 20, 48
#: Points.
_LARGE, _NORMAL, _SMALL = 22, 10, 8


def receipt_pdf(
    receipt: Receipt, invoice: InvoiceDetails, *, tenant_name: str, attachment: bytes
) -> bytes:
    """Return the receipt as a PDF; `attachment` becomes its `receipt.json`."""
    pdf = _new_document(receipt)
    _write_heading(pdf, receipt.seller)
    _write_lines(pdf, invoice)
    _write_facts(pdf, _billed_to(pdf, receipt, tenant_name))
    _write_facts(pdf, receipt_lines(receipt))
    _write(
        pdf,
        "The attached file receipt.json has this receipt as a Nostr event, signed by"
        f" {npub(receipt.signed.pubkey)}. Anyone can verify it.",
        size=_SMALL,
        colour=_GREY,
    )
    pdf.embed_file(
        bytes=attachment, basename="receipt.json", mime_type="application/json"
    )
    return bytes(pdf.output())


def _new_document(receipt: Receipt) -> FPDF:
    pdf = FPDF(format="A4")
    pdf.set_margin(_MARGIN)
    pdf.add_font("DejaVu", fname=_FONT)
    pdf.set_font("DejaVu", size=_NORMAL)
    pdf.set_lang("en")
    pdf.set_title(f"Receipt for invoice {receipt.number or receipt.invoice_id}")
    pdf.set_author(receipt.seller.name)
    pdf.set_creation_date(receipt.paid_at)
    pdf.add_page()
    return pdf


def _write_heading(pdf: FPDF, seller: Seller) -> None:
    _write(pdf, "Receipt", size=_LARGE)
    pdf.ln(6)
    _write(pdf, seller.name)
    for line in filter(None, (seller.address, seller.tax_id, seller.contact)):
        _write(pdf, line, colour=_GREY)
    pdf.ln(8)


def _write_lines(pdf: FPDF, invoice: InvoiceDetails) -> None:
    """Write a table of the invoice's lines and its total."""
    pdf.set_text_color(*_BLACK)
    with pdf.table(
        borders_layout="HORIZONTAL_LINES",
        first_row_as_headings=False,
        col_widths=(4, 1),
        text_align=("LEFT", "RIGHT"),
        line_height=6,
        padding=1,
    ) as table:
        for line in page_lines(invoice):
            texts = filter(None, (line.title, line.note, line.relays))
            table.row(("\n".join(texts), line.amount))
        table.row(("Total", format_amount(invoice.total_cents, invoice.currency)))
    pdf.ln(8)


def _billed_to(pdf: FPDF, receipt: Receipt, tenant_name: str) -> Iterator[ReceiptLine]:
    # Tenants choose their names; one with letters that the font lacks is left out.
    glyphs = cast(TTFFont, pdf.fonts["dejavu"]).cmap.keys()
    if tenant_name and glyphs >= set(map(ord, tenant_name)):
        yield ReceiptLine("Billed to", tenant_name)
        yield ReceiptLine("", receipt.tenant_npub, is_code=True)
    else:
        yield ReceiptLine("Billed to", receipt.tenant_npub, is_code=True)


def _write_facts(pdf: FPDF, facts: Iterable[ReceiptLine]) -> None:
    for fact in facts:
        pdf.set_text_color(*_GREY)
        pdf.cell(_TITLE_WIDTH, 5.5, fact.title)
        _write(pdf, fact.text, size=_SMALL if fact.is_code else _NORMAL)
    pdf.ln(4)


def _write(
    pdf: FPDF, text: str, *, size: int = _NORMAL, colour: tuple[int, ...] = _BLACK
) -> None:
    """Write a paragraph, from the current position to the right margin."""
    pdf.set_font_size(size)
    pdf.set_text_color(*colour)
    pdf.multi_cell(0, 5.5, text, align="LEFT", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    pdf.set_font_size(_NORMAL)
