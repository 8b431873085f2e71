"""Cloud Tasks on this machine: a gRPC server with Google's own messages, which delivers by HTTP.

As the real one: a name is taken once, and refused afterwards (for as long as the server lives); a task is called at its time,
again and again until the answer is 2xx, with a growing pause, or after `Retry-After`; a request is given up at its deadline. It
checks what it is given as the real one documents. Its pauses are shorter.
"""

from __future__ import annotations

import http.client
import random
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from heapq import heappop, heappush
from threading import Condition, Thread
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import grpc  # type: ignore[import-untyped]
from google.cloud.tasks_v2 import (
    CloudTasksAsyncClient,
    CloudTasksClient,
    CreateTaskRequest,
    DeleteTaskRequest,
    HttpMethod,
    Task,
)
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcAsyncIOTransport, CloudTasksGrpcTransport
from google.protobuf.empty_pb2 import Empty  # type: ignore[import-untyped]

QUEUE = "projects/example/locations/europe-west1/queues/jobs"
NAME = re.compile(re.escape(QUEUE) + r"/tasks/[A-Za-z0-9_-]{1,500}")
BACKOFF = (0.05, 1.0)
"""The first pause, and the longest, in seconds."""


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


CHANNEL = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 200)]


def client_of(address: str) -> CloudTasksClient:
    """Google's client of the server at this address, which looks soon whether a server that was down is back."""
    return CloudTasksClient(transport=CloudTasksGrpcTransport(channel=grpc.insecure_channel(address, CHANNEL)))


def async_client_of(address: str) -> CloudTasksAsyncClient:
    """Google's async client, of the running loop."""
    return CloudTasksAsyncClient(transport=CloudTasksGrpcAsyncIOTransport(channel=grpc.aio.insecure_channel(address, CHANNEL)))


@dataclass
class Waiting:
    """A task that is not done; `answers` are the statuses of its calls so far, None where there was none."""

    task: Any
    at: float
    answers: list[int | None]


class _Running(NamedTuple):
    server: Any
    calls: ThreadPoolExecutor
    deliveries: Thread


class CloudTasks:
    """A server that can be taken down, and comes back on the same port with what it had. `workers` calls are made at once."""

    def __init__(self, *, workers: int = 16, patience: float = 15.0) -> None:
        self.tasks: dict[str, Waiting] = {}
        self.address = f"127.0.0.1:{free_port()}"
        self._names: set[str] = set()
        self._due: list[tuple[float, int, str]] = []
        self._count = 0
        self._changed = Condition()
        self._busy, self._workers, self._patience = 0, workers, patience
        self._running: _Running | None = None

    def start(self) -> None:
        """Answer, and deliver."""
        server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers((self._handlers(),))
        server.add_insecure_port(self.address)
        server.start()
        calls = ThreadPoolExecutor(self._workers, thread_name_prefix="cloud-tasks")
        self._running = _Running(server, calls, Thread(target=self._deliver, args=(calls,)))
        self._running.deliveries.start()

    def stop(self) -> None:
        """Neither; what is being called now is called again, whatever the answer."""
        with self._changed:
            running, self._running = self._running, None
            self._changed.notify_all()
        if running is not None:
            running.server.stop(None).wait()
            running.deliveries.join()
            running.calls.shutdown(wait=False)

    def _handlers(self) -> grpc.GenericRpcHandler:
        def unary(answer: Any, request: Any, response: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(answer, request.deserialize, response)

        methods = {
            "CreateTask": unary(self._create, CreateTaskRequest, _serialized),
            "DeleteTask": unary(self._delete, DeleteTaskRequest, Empty.SerializeToString),
        }
        return grpc.method_handlers_generic_handler("google.cloud.tasks.v2.CloudTasks", methods)

    def _create(self, request: Any, context: grpc.ServicerContext) -> Any:
        task = request.task
        if fault := _fault(request):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, fault)
        with self._changed:
            if task.name in self._names:
                context.abort(grpc.StatusCode.ALREADY_EXISTS, "The task cannot be created because its name was used.")
            self._names.add(task.name)
            at = task.schedule_time.timestamp() if "schedule_time" in task else 0.0
            self.tasks[task.name] = Waiting(task, at, [])
            self._push(at, task.name)
        return task

    def _delete(self, request: DeleteTaskRequest, context: grpc.ServicerContext) -> Empty:
        with self._changed:
            if self.tasks.pop(request.name, None) is None:
                context.abort(grpc.StatusCode.NOT_FOUND, "The task does not exist.")
        return Empty()

    def _push(self, at: float, name: str) -> None:
        self._count += 1
        heappush(self._due, (at, self._count, name))
        self._changed.notify_all()

    def _deliver(self, calls: ThreadPoolExecutor) -> None:
        while (name := self._next()) is not None:
            calls.submit(self._call, name)

    def _next(self) -> str | None:
        with self._changed:
            while self._running is not None:
                if not self._due or self._busy >= self._workers:
                    self._changed.wait()
                elif (pause := self._due[0][0] - time.time()) > 0:
                    self._changed.wait(pause)
                else:
                    name = heappop(self._due)[2]
                    if name in self.tasks:
                        self._busy += 1
                        return name
            return None

    def _call(self, name: str) -> None:
        status, after = None, None
        with suppress(OSError, http.client.HTTPException, KeyError):
            status, after = _post(self.tasks[name].task, self._patience)
        with self._changed:
            self._busy -= 1
            self._changed.notify_all()
            waiting = self.tasks.get(name)
            if waiting is None:
                return
            waiting.answers.append(status)
            if self._running is not None and status is not None and 200 <= status < 300:
                del self.tasks[name]
                return
            pause = min(BACKOFF[0] * 2 ** (len(waiting.answers) - 1), BACKOFF[1]) * random.uniform(0.8, 1.0)
            self._push(time.time() + (pause if after is None else float(after)), name)


def _serialized(task: Any) -> bytes:
    kind: Any = Task  # typed in part
    data: bytes = kind.serialize(task)
    return data


def _fault(request: Any) -> str | None:
    """What the documentation of the API does not allow."""
    task = request.task
    if request.parent != QUEUE or not NAME.fullmatch(task.name):
        return f"no such queue, or not a name within it: {task.name}"
    if not task.http_request.url.startswith(("http://", "https://")) or task.http_request.http_method != HttpMethod.POST:
        return "not a POST to an address"
    if not timedelta(seconds=15) <= task.dispatch_deadline <= timedelta(minutes=30):
        return "dispatch_deadline: from 15 seconds to 30 minutes"
    if "schedule_time" in task and task.schedule_time.timestamp() > time.time() + 30 * 86400:
        return "schedule_time: at most 30 days ahead"
    return None


def _post(task: Any, patience: float) -> tuple[int, str | None]:
    """The status of the answer, and after which pause it is to be called again."""
    url = urlsplit(str(task.http_request.url))
    timeout = min(task.dispatch_deadline.total_seconds(), patience)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=timeout)
    headers = {**task.http_request.headers, "X-CloudTasks-TaskName": task.name.rsplit("/", 1)[1]}
    if email := task.http_request.oidc_token.service_account_email:
        headers["Authorization"] = f"Bearer {email}"  # the real one signs
    try:
        connection.request("POST", url.path, task.http_request.body, headers)
        response = connection.getresponse()
        response.read()
        return response.status, response.headers["Retry-After"] if response.status in (429, 503) else None
    finally:
        connection.close()
