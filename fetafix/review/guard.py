"""Who may ask the server what: this machine alone, whoever knows the address, and pages that it served itself.

Any page that a browser shows can send requests to loopback, and any name can be made to resolve to it. So a request
counts only if its Host is the server's own (a foreign name that points here is refused: DNS rebinding), if its path
begins with the token, which other pages cannot know, and, where it changes anything, if it comes from the server's own
page and carries JSON, which no form can send.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from urllib.parse import urlsplit

LARGEST_BODY = 64 * 1024
_HOSTS = ("127.0.0.1", "localhost")


class Refused(Exception):
    """A request that is not answered. status: the HTTP status; headers: that go with it."""

    def __init__(self, status: HTTPStatus, why: str, **headers: str) -> None:
        super().__init__(why)
        self.status, self.why, self.headers = status, why, headers


def token() -> str:
    """A new token: 256 random bits, fit for an address."""
    return secrets.token_urlsafe(32)


@dataclass(frozen=True, slots=True)
class Guard:
    """Checks requests to the server at a port. Raises Refused."""

    token: str
    port: int

    @property
    def hosts(self) -> tuple[str, ...]:
        """What the Host header may be."""
        return tuple(f"{h}:{self.port}" for h in _HOSTS)

    def route(self, target: str, host: str | None) -> str:
        """What is asked for, behind the token. `target` is the request's path as it was sent."""
        if host not in self.hosts:
            raise Refused(HTTPStatus.MISDIRECTED_REQUEST, "this server answers to 127.0.0.1 alone")
        first, _, rest = urlsplit(target).path.removeprefix("/").partition("/")
        if not hmac.compare_digest(first.encode("utf-8", "replace"), self.token.encode()):
            raise Refused(HTTPStatus.FORBIDDEN, "the address lacks the token: open the one that fetafix review printed")
        return rest

    def change(self, headers: Message) -> int:
        """A request that changes something: where it must come from and what it carries. Returns the body's length."""
        if not _own_page(headers.get("Host"), headers.get("Origin"), headers.get("Sec-Fetch-Site")):
            raise Refused(HTTPStatus.FORBIDDEN, "changes are taken from the page that this server shows alone")
        kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"expected application/json, found {kind or 'nothing'}")
        length = headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()) or "Transfer-Encoding" in headers:
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "expected a Content-Length")
        if len(length) > 12 or int(length) > LARGEST_BODY:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {LARGEST_BODY} bytes are not read")
        return int(length)


def _own_page(host: str | None, origin: str | None, site: str | None) -> bool:
    """Whether a request comes from a page of this server.

    Some browsers say no origin ("null") where a page sends no referrer; where a request comes from they then say by
    Sec-Fetch-Site, which no page can set.
    """
    if origin == "null":
        return site == "same-origin"
    return origin == f"http://{host}" and site in (None, "same-origin")


def headers(nonce: str = "") -> dict[str, str]:
    """What goes with every answer: nothing is kept, framed, sniffed or loaded from elsewhere.

    nonce: of the page's own script and styles; without, there is neither.
    """
    own = f"script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; connect-src 'self'; " if nonce else ""
    policy = f"default-src 'none'; {own}base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    return {
        "Content-Security-Policy": policy,
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
