"""Who is answered by the server, and who is not."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fetafix import plan as plans
from fetafix.errors import OutputError
from fetafix.review.guard import LARGEST_BODY
from fetafix.review.server import Server
from tests.commands import state, wait_until
from tests.review.client import Client, serve
from tests.review.runs import HOSTILE, plan_in


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with serve(plan_in(tmp_path / "run")) as made:
        yield made


def test_it_listens_on_loopback_alone(client: Client) -> None:
    assert client.server.server_address[0] == "127.0.0.1"
    assert client.server.url == f"http://{client.host}/{client.token}/" and len(client.token) >= 43
    others = {a[4][0] for a in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1"}
    for other in others:
        with pytest.raises(OSError), socket.create_connection((other, client.server.guard.port), 5):
            pass


def test_the_page_and_its_policy(client: Client) -> None:
    status, headers, body = client.ask("GET", "")
    assert status == 200 and headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(p.strip().split(" ", 1) for p in headers["content-security-policy"].split(";"))
    nonce = policy["script-src"].removeprefix("'nonce-").removesuffix("'")
    assert len(nonce) >= 20 and f'<script nonce="{nonce}">'.encode() in body and body.count(b"<script") == 1
    assert (policy["default-src"], policy["frame-ancestors"], policy["form-action"]) == ("'none'",) * 3
    assert (headers["cache-control"], headers["x-frame-options"]) == ("no-store", "DENY")
    assert (headers["referrer-policy"], headers["x-content-type-options"]) == ("no-referrer", "nosniff")
    assert "access-control-allow-origin" not in headers and "set-cookie" not in headers
    assert headers["server"] == "fetafix"
    assert nonce.encode() not in client.ask("GET", "")[2]
    assert b"http://" not in body.replace(b"http://www.w3.org/2000/svg", b"") and b"https://" not in body


TOKENLESS = ["/", "/state", "/decide", "/x/state", "//state", "/{t}x/state", "/{T}/state", "/%2e%2e/{t}/state",
             "/%ff/state", "?{t}", "/{s}/", "/{t}%00/state"]


@pytest.mark.parametrize("path", TOKENLESS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_without_the_token_nothing(client: Client, path: str, method: str) -> None:
    path = path.format(t=client.token, T=client.token.swapcase(), s=client.token[:-1])
    status, _, body = client.ask(method, "", b"{}", path=path)
    assert status == 403 and client.token.encode() not in body


@pytest.mark.parametrize("route", ["../", "%2e%2e/plan.json", "../../../../etc/passwd", "plan.json", "review.js", "/",
                                   "state/", "page/review.css", "state/../../x"])  # fmt: skip
def test_there_are_no_files(client: Client, route: str) -> None:
    assert client.ask("GET", route)[0] == 404


@pytest.mark.parametrize("host", [None, "", "evil.example", "evil.example:{p}", "127.0.0.1", "127.0.0.1:1", "[::1]:{p}",
                                  "127.0.0.1:{p}.evil.example", "LOCALHOST.evil:{p}", "0.0.0.0:{p}"])  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_another_host_is_refused(client: Client, host: str | None, method: str) -> None:
    host = host.format(p=client.server.guard.port) if host else host
    body = json.dumps(client.decision()).encode()
    status, _, answer = client.ask(method, "decide", body, host=host, origin=f"http://{host}",
                                   content_length=str(len(body)))  # fmt: skip
    assert status == 421 and client.token.encode() not in answer
    assert client.get("state")["entries"][client.decision()["decisions"][0]["entry"]]["approved"] is None


def test_localhost_is_the_same(client: Client) -> None:
    host = f"localhost:{client.server.guard.port}"
    assert client.post("decide", client.decision(), host=host, origin=f"http://{host}")[0] == 200


@pytest.mark.parametrize("headers", [
    {"origin": None}, {"origin": "null"}, {"origin": "null", "sec_fetch_site": "cross-site"},
    {"origin": "https://evil.example"}, {"origin": "http://127.0.0.1:1"},
    {"origin": "https://{h}"}, {"origin": "http://{h}/"}, {"origin": "http://localhost:{p}"},
    {"sec_fetch_site": "cross-site"}, {"sec_fetch_site": "same-site"}, {"sec_fetch_site": "none"},
    {"origin": None, "sec_fetch_site": "same-origin"}, {"origin": "https://e.example", "sec_fetch_site": "same-origin"},
])
@pytest.mark.parametrize("route", ["decide", "apply", "stop"])
def test_changes_from_elsewhere_are_refused(client: Client, route: str, headers: dict[str, str | None]) -> None:
    before = state(client.plan.parent)
    given = {k: v and v.format(h=client.host, p=client.server.guard.port) for k, v in headers.items()}
    data = {"decide": client.decision(), "apply": {"by": "Eve", "revision": ""}, "stop": {}}[route]
    assert client.post(route, data, **given)[0] == 403
    assert state(client.plan.parent) == before and client.get("state")["job"]["status"] == "idle"


@pytest.mark.parametrize("headers", [{"sec_fetch_site": "same-origin"},
                                     {"origin": "null", "sec_fetch_site": "same-origin"}])  # fmt: skip
def test_its_own_page_is_heard(client: Client, headers: dict[str, str | None]) -> None:
    assert client.post("decide", client.decision(), **headers)[0] == 200


@pytest.mark.parametrize("kind", [None, "", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"])
def test_other_content_is_refused(client: Client, kind: str | None) -> None:
    assert client.post("decide", client.decision(), content_type=kind)[0] == 415
    assert client.post("decide", client.decision(), content_type="application/json; charset=utf-8")[0] == 200


@pytest.mark.parametrize(("length", "status"), [
    (str(LARGEST_BODY + 1), 413), ("9" * 40, 413), (None, 411), ("-1", 411), ("x", 411), ("١", 411), ("1e3", 411),
])
def test_bodies_are_bounded(client: Client, length: str | None, status: int) -> None:
    given = length.encode().decode("latin-1") if length else length
    assert client.ask("POST", "decide", None, content_length=given)[0] == status


def test_a_body_in_chunks_is_refused(client: Client) -> None:
    assert client.ask("POST", "decide", b"0\r\n\r\n", transfer_encoding="chunked")[0] == 411


@pytest.mark.parametrize("body", [
    b"", b"{", b"[]", b"{}", b'{"decisions": [{}]}', b'{"decisions": 1}', b"\xff", b"[" * 60_000, b"NaN",
    b'{"decisions": [], "more": 1}',
])
def test_other_json_is_refused(client: Client, body: bytes) -> None:
    assert client.ask("POST", "decide", body)[0] == 400


@pytest.mark.parametrize("changes", [{"by": "x" * 201}, {"comment": "x" * 4001}, {"approved": "yes"}, {"edits": []}])
def test_decisions_are_of_their_type(client: Client, changes: dict[str, Any]) -> None:
    assert client.post("decide", client.decision(**changes))[0] == 400


@pytest.mark.parametrize(("method", "route", "allowed"), [
    ("GET", "decide", "POST"), ("GET", "apply", "POST"), ("GET", "stop", "POST"), ("POST", "", "GET"),
    ("POST", "state", "GET"), ("PUT", "decide", "POST"), ("DELETE", "", "GET"), ("OPTIONS", "decide", "POST"),
    ("HEAD", "state", "GET"), ("PATCH", "apply", "POST"), ("TRACE", "", "GET"),
])
def test_other_methods_are_refused(client: Client, method: str, route: str, allowed: str) -> None:
    before = state(client.plan.parent)
    status, headers, _ = client.ask(method, route, b"{}")
    assert (status, headers["allow"]) == (405, allowed)
    assert state(client.plan.parent) == before


def test_reading_changes_nothing(client: Client) -> None:
    before = state(client.plan.parent)
    for route in ("", "state", "state?approved=true", "?x"):
        assert client.ask("GET", route)[0] == 200
    assert state(client.plan.parent) == before


def test_decisions_are_kept_and_told(client: Client) -> None:
    status, told = client.post("decide", client.decision(0, True))
    assert status == 200 and told == client.get("state") | {"refused": []}
    entry = told["entries"][client.decision()["decisions"][0]["entry"]]
    assert (entry["approved"], entry["word"], entry["by"], entry["comment"]) == (True, "approved", "Ada", "why")
    assert plans.read(client.plan).entries[0].decided_by == "Ada"


def test_two_pages_lose_nothing(client: Client) -> None:
    old, other = client.decision(0, True), client.decision(1, False, by="Bob")
    assert client.post("decide", old)[0] == client.post("decide", other)[0] == 200
    status, told = client.post("decide", {"decisions": [old["decisions"][0] | {"approved": False, "by": "Bob"}]})
    (refused,) = told["refused"]
    assert status == 409 and told["entries"][refused]["by"] == "Ada"
    assert [(e.approved, e.decided_by) for e in plans.read(client.plan).entries] == [
        (True, "Ada"), (False, "Bob"), (None, "")]


def test_a_decision_without_a_name_is_refused_in_words(client: Client) -> None:
    status, told = client.post("decide", client.decision(by="  "))
    assert status == 422 and "needs a name" in told["error"]


def test_a_plan_that_was_spoilt_is_said_in_words(client: Client) -> None:
    client.plan.write_text("{")
    status, _, body = client.ask("GET", "state")
    assert status == 422 and "is no repair plan" in json.loads(body)["error"]


@pytest.mark.parametrize("line", ["{", '{"event": "applied"}', '{"event": "applied", "plan": "plan.json", "output": 1}',
                                  '{"event": "applied", "plan": "plan.json", "by": {"<b>": []}, "output": {}}'])
def test_a_spoilt_journal_spoils_no_page(client: Client, line: str) -> None:
    client.plan.with_name("journal.jsonl").write_text(line + "\n")
    status, _, body = client.ask("GET", "")
    assert status == 200 and b"<b>" not in body.partition(b"Applied before")[2].partition(b"</p>")[0]


def test_a_bug_is_told_as_one(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.server.review, "page", lambda _: 1 / 0)
    status, _, body = client.ask("GET", "")
    assert status == 500 and "unexpected ZeroDivisionError" in json.loads(body)["error"]


def test_the_button_ends_it(tmp_path: Path) -> None:
    with serve(plan_in(tmp_path / "run")) as client:
        assert client.post("stop", {})[0] == 200
        wait_until(lambda: not client.thread.is_alive())


def test_it_ends_when_nobody_is_there(tmp_path: Path) -> None:
    """Asking how things are does not keep it up."""
    with serve(plan_in(tmp_path / "run"), idle=0.3) as client:
        wait_until(lambda: not client.thread.is_alive())


def test_a_taken_port_is_said(client: Client) -> None:
    with pytest.raises(OutputError, match="cannot be served at port"):
        Server(client.server.review, client.server.guard.port)


def test_hostile_text_is_text(tmp_path: Path) -> None:
    plan = plan_in(tmp_path / "run", layer=HOSTILE.replace("{", "{{").replace("}", "}}") + "{}")
    with serve(plan) as client:
        _, _, body = client.ask("GET", "")
        page = body.decode()
        assert page.count("<script") == 1 and "alert(1)" in page and "<script>alert" not in page
        assert "{{ 7*7 }}" in page and "49" not in page.partition("<main")[2].partition("{{")[0]
        assert "\x1b" not in page and "\u202e" not in page and "\\u202e" in page
        client.post("decide", client.decision(0, comment=HOSTILE, by=HOSTILE))
        assert "<script>alert" not in client.ask("GET", "")[2].decode()
