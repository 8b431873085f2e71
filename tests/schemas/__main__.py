from __future__ import annotations

from jobstate.adapters.sqlalchemy import schema
from tests.schemas import ADDRESSES, freeze

freeze(schema.VERSION, ADDRESSES)
