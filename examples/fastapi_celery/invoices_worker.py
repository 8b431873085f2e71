"""The workers: `celery -A invoices_worker worker`. Its processes are forked from one that has opened no connection."""

import time
from typing import Any

from invoices import app, dispatcher, jobs

from jobstate import Context, JobFailed


def total(request: dict[str, Any], context: Context) -> dict[str, float]:
    """The sum of an invoice's lines, each with `seconds` of thought, if it has any."""
    lines: list[dict[str, float]] = request.get("lines") or []
    if not lines:
        raise JobFailed("no_lines", "the invoice has no lines")
    found = 0.0
    for number, line in enumerate(lines, 1):
        time.sleep(line.get("seconds", 0) if context.job.attempt_count == 1 else 0)
        found += line["price"] * line.get("quantity", 1)
        context.heartbeat(progress=number / len(lines))
    return {"total": found}


dispatcher.register(jobs, total)
__all__ = ["app"]
