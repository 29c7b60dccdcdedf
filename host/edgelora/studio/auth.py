"""Who may speak to the studio: the page that was opened with its address, and nobody else on this computer's browsers.

A page of another site, or a name that was rebound to this computer, reaches loopback too. So each request, over HTTP
as over a websocket, has to name this server as its Host, come from its own Origin if it tells one, and bring the
token: in the address once, from then on in a cookie that goes to no other site. Another port of this computer is the
same site for cookies, so what a browser says of where a request comes from (Sec-Fetch-Site) counts, too.
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

# Vue compiles templates in the page, and the page begins with scripts in line: both are the framework's own. What
# boards and files say only ever goes into text nodes.
POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; media-src 'self' data: blob:; connect-src 'self' {ws}; "
    "worker-src 'self' blob:; frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'self'"
)
# Goes on to the page itself, so that the token is neither in the address nor in what the browser remembers.
WELCOME = b"""<!doctype html><html lang="en"><meta charset="utf-8"><title>EdgeLoRA studio</title>
<meta http-equiv="refresh" content="0;url=/"><p><a href="/">To the studio</a></p></html>"""
COOKIE = "edgelora-studio-"  # before the port
COOKIES = re.compile(rf"(?:^|;)\s*{COOKIE}(\d{{1,5}})=")
MOST_COOKIES = 100
LOOK_SECONDS = 0.2  # for a port of this computer to answer
NO_RESPONSE = "No response returned."  # Starlette's middleware says so when a browser left before it got one
REFUSED = "This is not the studio's own page: open the whole address that `edgelora studio` printed.\n"


class Guard:
    """An ASGI app that hands on to `app` only what may speak to it, and says how its answers may be used."""

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
        # The framework believes these of a proxy, and there is none.
        scope["headers"] = [pair for pair in scope["headers"] if not pair[0].lower().startswith(b"x-forwarded-")]
        try:
            await self._app(scope, receive, self._with_headers(send))
        except RuntimeError as error:
            if str(error) != NO_RESPONSE:
                raise

    def _why_not(self, scope: Scope, headers: list[tuple[str, str]]) -> str:
        """Why a request is refused whatever token it brings; "" if it isn't."""
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
        """Leaves the token, and takes away those of studios that have ended: a browser keeps them for this host."""
        kept = "Path=/; HttpOnly; SameSite=Strict"
        cookies = [f"{self._cookie}={self._token}; {kept}"]
        cookies += [f"{COOKIE}{port}=; Max-Age=0; {kept}" for port in self._ended(asked)]
        headers = [(b"content-type", b"text/html; charset=utf-8")]
        headers += [(b"set-cookie", cookie.encode()) for cookie in cookies]
        headers += [(b"cache-control", b"no-store"), *self._headers]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": WELCOME})

    def _ended(self, headers: list[tuple[str, str]]) -> list[int]:
        """Ports of the studios whose cookies a browser has, and at which nothing listens any more."""
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
    """A parameter of the address, "" if it is not there once."""
    try:
        values = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=20).get(name, [])
    except ValueError:
        return ""
    return values[0] if len(values) == 1 else ""


def _is_served(port: int) -> bool:
    """Whether something listens at a port of this computer."""
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
