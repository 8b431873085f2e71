"""A Flask service with a table of orders: an order and the job that ships it are written in one transaction, or neither is.

DATABASE_URL says where: SQLite or PostgreSQL.
"""

import os
from typing import Any

from flask import Flask, Response, jsonify, request
from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, create_engine, insert, select, update

from jobstate import Context, JobFailed, Jobs, TransitionError
from jobstate.adapters.sqlalchemy import SQLAlchemyRepository

SHIP = "/orders/ship"
STOCK = {"book": 3, "lamp": 1}

metadata = MetaData()
orders = Table(
    "orders",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("item", String(64), nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("job_id", String(32), nullable=False),
    Column("shipped_by", String(32)),
)

engine = create_engine(os.environ.get("DATABASE_URL", "sqlite:///orders.sqlite"))
repository = SQLAlchemyRepository(engine)
trusted = Jobs(repository)  # no dispatcher: workers take the jobs from the database
jobs = trusted.for_organization("shop")


def prepare() -> None:
    """The tables of both; at every start."""
    repository.create_schema()
    metadata.create_all(engine)


def place(connection: Connection, item: str, quantity: int) -> tuple[int, str]:
    """An order and its job, as a part of the caller's transaction: their ids. Raises ValueError when there is too little."""
    job = jobs.bind(connection).create(SHIP, {"item": item, "quantity": quantity})
    values = {"item": item, "quantity": quantity, "job_id": job.id}
    (number,) = connection.execute(insert(orders).values(values).returning(orders.c.id)).one()
    if quantity > STOCK.get(item, 0):
        raise ValueError(f"there are {STOCK.get(item, 0)} of {item}")
    return number, job.id


def ship(request: dict[str, Any], context: Context) -> dict[str, str]:
    """The handler. It may run twice, so what it writes names the job: the second time changes nothing."""
    mine = orders.c.job_id == context.job.id
    if request["item"] == "lamp" and context.job.run == 1:
        raise JobFailed("packaging_missing", "there is no box for a lamp")
    with engine.begin() as connection:
        connection.execute(update(orders).where(mine).values(shipped_by=context.job.id))
    return {"parcel": f"{request['quantity']} x {request['item']}"}


app = Flask(__name__)


@app.post("/orders")
def create() -> tuple[Response, int]:
    """Place an order; 409 when there is too little, and then there is no job either."""
    asked = request.get_json()
    try:
        with engine.begin() as connection:
            number, job_id = place(connection, asked["item"], asked["quantity"])
    except ValueError as error:
        return jsonify(error=str(error)), 409
    return jsonify(id=number, job=job_id), 202


@app.get("/orders/<int:number>")
def show(number: int) -> tuple[Response, int]:
    """An order, and how far it is."""
    with engine.connect() as connection:
        order = connection.execute(select(orders).where(orders.c.id == number)).mappings().one_or_none()
    if order is None:
        return jsonify(error="no such order"), 404
    job = jobs.retrieve(order["job_id"], include_response=True)
    answer = {"item": order["item"], "status": job.status, "shipped": order["shipped_by"] == job.id}
    return jsonify(
        answer | {"parcel": job.response and job.response.body["parcel"], "error": job.error and job.error.code}
    ), 200


@app.post("/orders/<int:number>/retry")
def retry(number: int) -> tuple[Response, int]:
    """Ship it once more, when it has failed."""
    with engine.begin() as connection:
        job_id = connection.execute(select(orders.c.job_id).where(orders.c.id == number)).scalar_one()
        try:
            job = jobs.bind(connection).retry(job_id)
        except TransitionError as refusal:
            return jsonify(error=refusal.code), 409
    return jsonify(status=job.status), 202
