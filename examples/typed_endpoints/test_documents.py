"""Payloads are models on the way in and out; what does not fit is refused, or a failure, with its reason."""

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import documents
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import create_engine

from jobstate import InvalidInputError, Jobs
from jobstate.adapters.sqlalchemy import SQLAlchemyRepository
from jobstate.inprocess import ThreadDispatcher
from jobstate.worker import Handler


class Service:
    def __init__(self, folder: Path) -> None:
        self._engine = create_engine(f"sqlite:///{folder / 'documents.sqlite'}")
        repository = SQLAlchemyRepository(self._engine)
        repository.create_schema()
        self.dispatcher = ThreadDispatcher(workers=2)
        self.jobs: Jobs = documents.make_jobs(repository, self.dispatcher)
        self.client = TestClient(documents.make_app(self.jobs, lambda: "org"))

    def send(self, endpoint: str, request: Any, handler: Handler = documents.handler) -> dict[str, Any]:
        """The job, run to its end."""
        with self.dispatcher.running(self.jobs, handler):
            job = self.client.post("/v1/jobs", json={"endpoint": endpoint, "request": request}).json()
            self.dispatcher.join()
        answer: dict[str, Any] = self.client.get(f"/v1/jobs/{job['id']}?include_response=true").json()
        return answer

    def close(self) -> None:
        self.client.close()
        self._engine.dispose()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    yield made
    made.close()


def test_a_request_is_a_model_and_so_is_its_response(service: Service) -> None:
    job = service.send("/v1/invoices/extract", {"text": "total: 12.50\ndue: 2024-02-29"})
    assert job["response"]["body"] == {"total": "12.50", "due": "2024-02-29"}
    assert documents.total_of(service.jobs, job["id"]) == Decimal("12.50")


def test_each_endpoint_has_its_handler(service: Service) -> None:
    job = service.send("/v1/documents/split", {"pages": ["a", "b", "c"], "size": 2})
    assert job["response"]["body"] == {"parts": [["a", "b"], ["c"]]}


def test_a_document_without_a_total_fails_with_a_reason_for_its_user(service: Service) -> None:
    job = service.send("/v1/invoices/extract", {"text": "nothing here"})
    assert (job["status"], job["error"]["code"], job["error"]["details"]) == ("failed", "no_total", {"lines": 1})


def test_a_handler_that_answers_with_another_type_fails_the_job(service: Service) -> None:
    job = service.send("/v1/invoices/extract", {"text": "total: 1"}, lambda request, context: {"totl": 1})
    assert (job["status"], job["last_failure_code"]) == ("failed", "invalid_result")


@pytest.mark.parametrize(
    ("endpoint", "request_", "field"),
    [
        ("/v1/invoices/extract", {"text": ""}, "request.text"),
        ("/v1/documents/split", {"pages": ["a", 2], "size": 1}, "request.pages.1"),
        ("/v1/invoices/pay", {}, "endpoint"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_field(service: Service, endpoint: str, request_: Any, field: str) -> None:
    answer = service.client.post("/v1/jobs", json={"endpoint": endpoint, "request": request_})
    assert answer.status_code == 422
    assert [fault["field"] for fault in answer.json()["detail"]["details"]["errors"]] == [field]
    assert service.jobs.count() == 0


def test_in_python_too(service: Service) -> None:
    with pytest.raises(InvalidInputError, match="size"):
        service.jobs.create(documents.SPLIT, documents.Split.model_construct(pages=[], size=0), organization_id="org")


def test_the_openapi_document_shows_each_request(service: Service) -> None:
    body = json.dumps(service.client.get("/openapi.json").json()["paths"]["/v1/jobs"]["post"]["requestBody"])
    assert all(f'"title": "{model.__name__}"' in body for model in (documents.Extract, documents.Split)), body
