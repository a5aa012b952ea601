"""The page on loopback: a few fixed routes behind a token, no files; `guard` says who is answered.

    GET  TOKEN/         the page
    GET  TOKEN/state    how everything is decided now, and how far applying is
    POST TOKEN/decide   decisions: {"decisions": [{entry, approved, by, comment, state}]}
    POST TOKEN/apply    apply what is approved: {"by": …, "revision": what was seen}
    POST TOKEN/stop     end the server: {}

The token is in the path, not in a cookie: browsers send cookies to every port of a host, whoever listens there.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec

from fetafix import plan as plans
from fetafix.errors import FetafixError, OutputError, UsageError
from fetafix.review import applying, page
from fetafix.review.decisions import Decision, Desk, Name, revision, stamp, word
from fetafix.review.guard import Guard, Refused, headers, token
from fetafix.review.run import Run

IDLE_S = 4 * 3600.0
_SOCKET_S = 30
_READ, _CHANGE = ("", "state"), ("decide", "apply", "stop")


class _Decide(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    decisions: list[Decision]


class _Apply(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    by: Name
    revision: str


class _Stop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Review:
    """What the routes do; knows nothing of HTTP. by: whose name the page begins with."""

    def __init__(self, run: Run, desk: Desk, by: str = "", trust: bool = False) -> None:
        self.run, self.desk, self.by, self.trust = run, desk, by, trust
        self.job = applying.Job()

    def page(self, nonce: str) -> str:
        """The page as HTML."""
        return page.render(self.run, self.desk.read(), self.by, nonce, self.desk.applied())

    def state(self) -> dict[str, Any]:
        """How everything is now."""
        return self._told(self.desk.read())

    def decide(self, asked: _Decide) -> tuple[HTTPStatus, dict[str, Any]]:
        """Write decisions; 409 where somebody was faster, with what they said."""
        outcome = self.desk.decide(asked.decisions)
        refused = [e.id for e in outcome.refused]
        return HTTPStatus.CONFLICT if refused else HTTPStatus.OK, {**self._told(outcome.plan), "refused": refused}

    def apply(self, asked: _Apply) -> tuple[HTTPStatus, dict[str, Any]]:
        """Begin to apply what is approved; 409 where that is no longer what the person saw, or one is at work."""
        by = " ".join(asked.by.split())
        if not by:
            raise UsageError("say who applies the repairs: give a name")
        held = self.desk.hold(asked.revision)
        if held is None:
            error = "Somebody decided in the meantime. Look at what is approved now, then apply."
            return HTTPStatus.CONFLICT, {**self.state(), "error": error}
        if why := applying.ready(self.run, held.plan, self.trust):
            raise UsageError(why)
        started = self.job.start(
            by, lambda progress: applying.apply(self.run, self.desk, held, by, self.trust, progress))
        status = HTTPStatus.ACCEPTED if started else HTTPStatus.CONFLICT
        return status, {**self.state(), **({} if started else {"error": "Applying is under way already."})}

    def _told(self, plan: plans.Plan) -> dict[str, Any]:
        return {
            "entries": {e.id: {"approved": e.approved, "word": word(e.approved), "by": e.decided_by,
                               "at": e.decided_at, "comment": e.comment, "state": stamp(e)} for e in plan.entries},
            "revision": revision(plan), "ready": applying.ready(self.run, plan, self.trust), "job": self.job.state(),
        }  # fmt: skip


class Server(ThreadingHTTPServer):
    """Serves a review on 127.0.0.1 until it is stopped, or nobody has used it for `idle` seconds.

    port: 0 for any that is free. A page that only asks how things are does not count as use.
    """

    daemon_threads = True
    allow_reuse_address = False

    def __init__(self, review: Review, port: int = 0, idle: float = IDLE_S) -> None:
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise OutputError(f"the page cannot be served at port {port}: {error.strerror}") from error
        self.review, self.idle = review, idle
        self.guard = Guard(token(), self.server_address[1])
        self.used = time.monotonic()

    @property
    def url(self) -> str:
        """Where the page is, token included: whoever knows it may decide."""
        return f"http://127.0.0.1:{self.guard.port}/{self.guard.token}/"

    def service_actions(self) -> None:
        """Called twice a second: end when nobody is there any more."""
        if self.review.job.status == "running":
            self.used = time.monotonic()
        if time.monotonic() - self.used > self.idle:
            self.end()

    def end(self) -> None:
        """Stop serving, from whatever thread."""
        threading.Thread(target=self.shutdown, daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that hangs up is no event."""


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = _SOCKET_S

    def do_GET(self) -> None:
        self._guarded(self._read)

    def do_POST(self) -> None:
        self._guarded(self._change)

    def _other(self) -> None:
        self._guarded(self._no_method)

    do_HEAD = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = _other

    def _read(self, route: str) -> None:
        if route in _CHANGE:
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "that is asked for by POST", Allow="POST")
        if route == "state":
            return self._json(HTTPStatus.OK, self.server.review.state())
        self._known(route)
        self.server.used = time.monotonic()
        nonce = secrets.token_urlsafe(16)
        self._send(HTTPStatus.OK, self.server.review.page(nonce).encode(), "text/html; charset=utf-8", nonce)

    def _change(self, route: str) -> None:
        if route in _READ:
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "that is asked for by GET", Allow="GET")
        self._known(route)
        body = self.rfile.read(self.server.guard.change(self.headers))
        self.server.used = time.monotonic()
        review = self.server.review
        try:
            if route == "decide":
                return self._json(*review.decide(msgspec.json.decode(body, type=_Decide)))
            if route == "apply":
                return self._json(*review.apply(msgspec.json.decode(body, type=_Apply)))
            msgspec.json.decode(body, type=_Stop)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Refused(HTTPStatus.BAD_REQUEST, f"expected other JSON: {error}") from error
        if review.job.status == "running":
            raise Refused(HTTPStatus.CONFLICT, "Applying is under way; wait until it is done.")
        self._json(HTTPStatus.OK, {})
        self.server.end()

    def _no_method(self, route: str) -> None:
        self._known(route)
        allowed = "GET" if route in _READ else "POST"
        raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, f"that is asked for by {allowed}", Allow=allowed)

    def _known(self, route: str) -> None:
        if route not in (*_READ, *_CHANGE):
            raise Refused(HTTPStatus.NOT_FOUND, "there is no such page")

    def _guarded(self, answer: Callable[[str], None]) -> None:
        """Answer, or say in JSON why not."""
        try:
            hosts = self.headers.get_all("Host") or []
            answer(self.server.guard.route(self.path, hosts[0] if len(hosts) == 1 else None))
        except Refused as refused:
            self._json(refused.status, {"error": refused.why}, **refused.headers)
        except FetafixError as error:
            self._json(HTTPStatus.UNPROCESSABLE_ENTITY, {"error": str(error)})
        except OSError:
            raise  # whoever asked has hung up
        except Exception as error:  # a bug must not look like a server that is gone
            self._json(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": f"unexpected {type(error).__name__}: {error}"})

    def _json(self, status: HTTPStatus, data: Any, **more: str) -> None:
        self._send(status, msgspec.json.encode(data), "application/json", **more)

    def _send(self, status: HTTPStatus, body: bytes, kind: str, nonce: str = "", **more: str) -> None:
        self.send_response(status)
        sent = {"Content-Type": kind, "Content-Length": str(len(body)), "Connection": "close"}
        for name, value in {**sent, **headers(nonce), **more}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def version_string(self) -> str:
        return "fetafix"

    def log_message(self, format: str, *args: Any) -> None:
        """The terminal stays quiet; it would show the token."""
