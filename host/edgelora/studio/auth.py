"""Access to the studio: only the page opened with its secret address, no other page in this computer's browsers.

Other sites' pages, and names rebound to this computer (DNS rebinding), can reach loopback. So each request, over HTTP
or a websocket, must name this server as its Host, come from its Origin if one is given, and carry the
token: in the address once, then in a cookie for this site only. Another port of this computer is the
same site for cookies, so the browser's Sec-Fetch-Site header is checked, too.
"""

from __future__ import annotations

import hmac
import re
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# Vue compiles templates in the page, and the page begins with inline scripts: both are the framework's own. Text of
# boards and files goes into text nodes only.
POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; media-src 'self' data: blob:; connect-src 'self' {ws}; "
    "worker-src 'self' blob:; frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'self'"
)
# Redirects to the page itself, so that the token is neither in the address nor in the browser's history.
WELCOME = b"""<!doctype html><html lang="en"><meta charset="utf-8"><title>EdgeLoRA studio</title>
<meta http-equiv="refresh" content="0;url=/"><p><a href="/">To the studio</a></p></html>"""
COOKIE = "edgelora-studio-"  # before the port
COOKIES = re.compile(rf"(?:^|;)\s*{COOKIE}(\d{{1,5}})=")
MOST_COOKIES = 100
LOOK_SECONDS = 0.2  # to wait for a local port to answer
NO_RESPONSE = "No response returned."  # Starlette's message when a browser disconnects early
REFUSED = "This is not the studio's own page: open the whole address that `edgelora studio` printed.\n"


class Guard:
    """An ASGI app that passes permitted requests to `app`, and adds security headers to responses."""

    def __init__(self, app: App, port: int, token: str) -> None:
        self._app, self._token, self._cookie = app, token, f"{COOKIE}{port}"
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        ws = " ".join(f"ws://{host}" for host in sorted(self._hosts))
        self._headers = [
            (b"content-security-policy", POLICY.format(ws=ws).encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"cross-origin-opener-policy", b"same-origin"),
            (b"cross-origin-resource-policy", b"same-origin"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]]
        why = self._why_not(scope, headers)
        if why:
            return await _refuse(scope, send, why)
        if scope["type"] == "http" and scope["path"] == "/" and self._is_token(_asked(scope, "token")):
            return await self._welcome(headers, send)
        if not self._is_token(_cookie(headers, self._cookie)):
            return await _refuse(scope, send, REFUSED)
        # The framework trusts these headers of a proxy, and there is no proxy.
        scope["headers"] = [pair for pair in scope["headers"] if not pair[0].lower().startswith(b"x-forwarded-")]
        try:
            await self._app(scope, receive, self._with_headers(send))
        except RuntimeError as error:
            if str(error) != NO_RESPONSE:
                raise

    def _why_not(self, scope: Scope, headers: list[tuple[str, str]]) -> str:
        """Why a request is refused regardless of its token; "" if it is not."""
        hosts = [value for name, value in headers if name == "host"]
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return f"The Host of this request is not this server. {REFUSED}"
        origins = [value for name, value in headers if name == "origin"]
        if any(origin != f"http://{hosts[0]}" for origin in origins) or len(origins) > 1:
            return f"This request comes from another page. {REFUSED}"
        fetched = dict(headers).get("sec-fetch-site", "none")
        if fetched not in ("none", "same-origin") and dict(headers).get("sec-fetch-mode") != "navigate":
            return f"This request comes from another page. {REFUSED}"
        if scope["type"] == "websocket" and not origins:
            return f"This request names no Origin. {REFUSED}"
        return ""

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._token.encode())

    async def _welcome(self, asked: list[tuple[str, str]], send: Send) -> None:
        """Sets the token's cookie, and deletes those of studios that have ended: a browser keeps them for this host."""
        kept = "Path=/; HttpOnly; SameSite=Strict"
        cookies = [f"{self._cookie}={self._token}; {kept}"]
        cookies += [f"{COOKIE}{port}=; Max-Age=0; {kept}" for port in self._ended(asked)]
        headers = [(b"content-type", b"text/html; charset=utf-8")]
        headers += [(b"set-cookie", cookie.encode()) for cookie in cookies]
        headers += [(b"cache-control", b"no-store"), *self._headers]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": WELCOME})

    def _ended(self, headers: list[tuple[str, str]]) -> list[int]:
        """Ports of ended studios whose cookies the browser still has."""
        text = ";".join(value for name, value in headers if name == "cookie")
        ports = [int(port) for port in dict.fromkeys(COOKIES.findall(text)) if int(port) < 1 << 16][:MOST_COOKIES]
        return [port for port in ports if f"{COOKIE}{port}" != self._cookie and not _is_served(port)]

    def _with_headers(self, send: Send) -> Send:
        async def sender(message: Message) -> None:
            if message["type"] == "http.response.start":
                named = {name for name, _ in self._headers}
                kept = [pair for pair in message["headers"] if bytes(pair[0]).lower() not in named]
                if not any(bytes(name).lower() == b"cache-control" for name, _ in kept):
                    kept.append((b"cache-control", b"no-store"))
                message = {**message, "headers": [*kept, *self._headers]}
            await send(message)

        return sender


def _asked(scope: Scope, name: str) -> str:
    """A parameter of the address, "" unless it occurs exactly once."""
    try:
        values = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=20).get(name, [])
    except ValueError:
        return ""
    return values[0] if len(values) == 1 else ""


def _is_served(port: int) -> bool:
    """Whether a server listens on a local port."""
    with socket.socket() as line:
        line.settimeout(LOOK_SECONDS)
        return line.connect_ex(("127.0.0.1", port)) == 0


def _cookie(headers: list[tuple[str, str]], name: str) -> str:
    for key, value in headers:
        if key == "cookie":
            for part in value.split(";"):
                with_name = SimpleCookie()
                try:
                    with_name.load(part.strip())
                except CookieError:
                    continue
                if name in with_name:
                    return with_name[name].value
    return ""


async def _refuse(scope: Scope, send: Send, why: str) -> None:
    if scope["type"] == "websocket":
        return await send({"type": "websocket.close", "code": 1008, "reason": "refused"})
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": why.encode()})
