"""What the web side and the workers have in common: the database, the broker, the jobs.

DATABASE_URL is a PostgreSQL address, REDIS_URL that of a Redis or Valkey.
"""

import os
from datetime import timedelta

from celery import Celery
from sqlalchemy import create_engine

from jobstate import Jobs, Policy
from jobstate.adapters.celery import CeleryDispatcher
from jobstate.adapters.sqlalchemy import SQLAlchemyRepository

app = Celery("invoices", broker=os.environ["REDIS_URL"])
app.conf.broker_connection_retry_on_startup = True
dispatcher = CeleryDispatcher(app)
repository = SQLAlchemyRepository(create_engine(os.environ["DATABASE_URL"]))
policy = Policy(lease=timedelta(seconds=10), clock_skew=timedelta(seconds=2), backoff=timedelta(0))
jobs = Jobs(repository, dispatcher, policy=policy)
