"""The demo's handler: reads a document, and converts its total by exchange rates that lie outside the request.

The rates are what fails the first attempt: while they are missing no retry of the same request can succeed; once its user has
put them in place, the same request does.
"""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

from pydantic import BaseModel

from jobstate import Context, Endpoint, JobFailed

LIMIT = 20 * 1024 * 1024
"""The largest document that the demo takes, in bytes."""


class ExtractRequest(BaseModel):
    """A document, as base64, and the currency that its total is wanted in."""

    filename: str
    content: str
    currency: str = "EUR"


class Line(BaseModel):
    """One line of an invoice."""

    item: str
    quantity: Decimal
    unit_price: Decimal
    amount: Decimal


class ExtractResult(BaseModel):
    """What was found. For a document that is no invoice only the counts are filled in."""

    pages: int
    words: int
    invoice_number: str | None = None
    currency: str | None = None
    lines: list[Line] = []
    total: Decimal | None = None
    total_converted: Decimal | None = None


EXTRACT = Endpoint("/v1/documents/extract", request=ExtractRequest, response=ExtractResult)

_LINE = re.compile(r"^(?P<item>[^;\n]+); *(?P<quantity>[\d.]+); *(?P<unit_price>[\d.]+); *(?P<amount>[\d.]+)$", re.MULTILINE)


def extractor(rates: Path) -> Callable[[ExtractRequest, Context], ExtractResult]:
    """The handler, with the place of the exchange rates: a CSV file of `currency,per_euro`."""

    def extract(request: ExtractRequest, context: Context) -> ExtractResult:
        pages = read_pages(request.filename, base64.b64decode(request.content))
        context.heartbeat(0.5)
        return _with_conversion(_read(pages), request.currency, _rates(rates))

    return extract


def read_pages(filename: str, data: bytes) -> list[str]:
    """The text of each page of a PDF, or of a text file as one page. Raises JobFailed for what is neither."""
    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    try:
        if data.startswith(b"%PDF"):
            return [page.extract_text() for page in PdfReader(io.BytesIO(data)).pages]
        return [data.decode()]
    except (PyPdfError, UnicodeDecodeError) as error:
        raise JobFailed("unreadable_document", f"{filename} is neither a PDF nor UTF-8 text: {error}") from error


def _read(pages: list[str]) -> ExtractResult:
    text = "\n".join(pages)
    lines = [Line.model_validate(found.groupdict()) for found in _LINE.finditer(text)]
    total = _find(r"^Total: *([\d.]+)$", text)
    result = ExtractResult(
        pages=len(pages),
        words=len(text.split()),
        invoice_number=_find(r"^Invoice number: *(\S+)$", text),
        currency=_find(r"^Currency: *([A-Z]{3})$", text),
        lines=lines,
        total=None if total is None else Decimal(total),
    )
    for line in lines:
        if line.quantity * line.unit_price != line.amount:
            raise JobFailed("sums_differ", f"{line.item}: {line.quantity} x {line.unit_price} is not {line.amount}")
    return result


def _find(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text, re.MULTILINE)
    return None if found is None else found.group(1)


def _rates(path: Path) -> dict[str, Decimal]:
    try:
        with path.open(newline="") as file:
            return {row["currency"]: Decimal(row["per_euro"]) for row in csv.DictReader(file)}
    except FileNotFoundError:
        raise JobFailed("rates_missing", f"the exchange rates are not there: put them at {path}, then retry") from None


def _with_conversion(result: ExtractResult, wanted: str, rates: dict[str, Decimal]) -> ExtractResult:
    if result.total is None or result.currency is None:
        return result
    for currency in (result.currency, wanted):
        if currency not in rates:
            raise JobFailed("currency_unknown", f"there is no rate for {currency}; there are {', '.join(sorted(rates))}")
    converted = (result.total / rates[result.currency] * rates[wanted]).quantize(Decimal("0.01"))
    return result.model_copy(update={"total_converted": converted})
