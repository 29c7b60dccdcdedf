"""Endpoints of the studio's canvases: live frames, thumbnails and sounds of samples."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

from fastapi import FastAPI, Response, WebSocket, WebSocketDisconnect
from nicegui import run

from edgelora.base.errors import EdgeloraError
from edgelora.studio.corrections import Correctors
from edgelora.studio.live import Cursor, Live
from edgelora.studio.project import Project
from edgelora.studio.samples import ProjectSamples, Sample

ANSWER_SECONDS = 0.5  # until a page gets an empty frame


def add_routes(app: FastAPI, project: Project) -> None:
    """Adds endpoints: a board's live frames over a websocket; thumbnails and sounds of samples."""

    @app.websocket("/senses/live")
    async def live_frames(socket: WebSocket, board: str = "") -> None:
        session = project.sessions.get(board)
        if session is None:
            return await socket.close(1008)
        await socket.accept()
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            await _answer(socket, session.of(Live))

    @app.get("/senses/thumb/{sample_id}")
    async def thumbnail(sample_id: str, points: int = 64) -> Response:
        project_samples = project.of(ProjectSamples)
        return await _made(
            project_samples,
            sample_id,
            partial(_picture, project_samples, min(max(points, 8), 1000)),
            "application/json",
        )

    @app.get("/senses/asked/{number}")
    async def asked(number: int, board: str = "") -> Response:
        session = project.sessions.get(board)
        sound = session and project.of(Correctors).of(session).sound(number)
        return Response(sound, media_type="audio/wav") if sound else Response("gone", 404, media_type="text/plain")

    @app.get("/senses/wav/{sample_id}")
    async def sound(sample_id: str) -> Response:
        project_samples = project.of(ProjectSamples)
        return await _made(project_samples, sample_id, project_samples.wav, "audio/wav")


async def _answer(socket: WebSocket, live: Live) -> None:
    """Sends one frame per request, as soon as there is new data."""
    cursor, loop, news = Cursor(), asyncio.get_running_loop(), asyncio.Event()
    with live.heard(lambda: loop.call_soon_threadsafe(news.set)):
        while True:
            await socket.receive_text()
            until, frame = loop.time() + ANSWER_SECONDS, None
            while frame is None and loop.time() < until:
                news.clear()
                frame = live.frame(cursor)
                if frame is None:
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(news.wait(), max(0.0, until - loop.time()))
            await socket.send_bytes(frame or b"")


def _picture(project_samples: ProjectSamples, points: int, sample: Sample) -> bytes:
    import json

    return json.dumps(project_samples.thumbnail(sample, points)).encode()


async def _made(
    project_samples: ProjectSamples, sample_id: str, make: Callable[[Sample], bytes], kind: str
) -> Response:
    def work() -> Any:
        return make(project_samples.sample(sample_id))

    try:
        content = await run.io_bound(work)
    except (EdgeloraError, OSError) as error:
        return Response(str(error), 404, media_type="text/plain")
    return Response(content, media_type=kind, headers={"cache-control": "private, max-age=86400"})
