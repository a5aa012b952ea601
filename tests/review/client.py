"""A served review, and a client that asks as the page does, or otherwise."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fetafix import plan as plans
from fetafix.review.decisions import stamp
from fetafix.review.run import find
from fetafix.review.server import Review, Server
from tests.review.runs import desk


class Client:
    """Asks as the page does, unless told otherwise."""

    def __init__(self, server: Server, thread: threading.Thread) -> None:
        self.server, self.thread, self.plan = server, thread, server.review.run.plan
        self.host = f"127.0.0.1:{server.guard.port}"
        self.token = server.guard.token

    def ask(self, method: str, route: str, body: bytes | None = None, path: str | None = None,
            **headers: str | None) -> tuple[int, dict[str, str], bytes]:  # fmt: skip
        """headers: "content_type" is Content-Type; None leaves one out."""
        given: dict[str, str | None] = {"host": self.host}
        if method != "GET":
            given |= {"origin": f"http://{self.host}", "content_type": "application/json",
                      "content_length": str(len(body or b""))}
        connection = http.client.HTTPConnection("127.0.0.1", self.server.guard.port, timeout=20)
        connection.putrequest(method, path or f"/{self.token}/{route}", skip_host=True, skip_accept_encoding=True)
        for name, value in (given | headers).items():
            if value is not None:
                connection.putheader(name.replace("_", "-"), value)
        connection.endheaders(body)
        answer = connection.getresponse()
        found = answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        connection.close()
        return found

    def post(self, route: str, data: Any, **headers: str | None) -> tuple[int, dict[str, Any]]:
        status, _, body = self.ask("POST", route, json.dumps(data).encode(), **headers)
        return status, json.loads(body)

    def get(self, route: str) -> dict[str, Any]:
        status, _, body = self.ask("GET", route)
        assert status == 200
        told: dict[str, Any] = json.loads(body)
        return told

    def decision(self, at: int = 0, approved: bool | None = True, **changes: Any) -> dict[str, Any]:
        entry = plans.read(self.plan).entries[at]
        made = {"entry": entry.id, "approved": approved, "by": "Ada", "comment": "why", "state": stamp(entry)}
        return {"decisions": [made | changes]}


@contextmanager
def serve(plan: Path, **options: Any) -> Iterator[Client]:
    with desk(plan) as here, Server(Review(find(plan), here), **options) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield Client(server, thread)
        finally:
            server.shutdown()
            thread.join(20)
