"""The built page: its files, read once, with the headers under which a browser may keep and run them. It knows no API.

What has a hash in its name never changes and is kept for a year; all else is asked for again each time, by its ETag.
A path of the page's own (/workers/w1) is answered with the page, which finds its way by itself.
"""

from __future__ import annotations

import hashlib
import mimetypes
import re
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from strata_zmq.coordinator.api.bodies import answer
from strata_zmq.coordinator.api.models import Refused
from strata_zmq.errors import InvalidArgumentError

__all__ = ["PAGE_BYTES_MAX", "Page"]

PAGE_BYTES_MAX = 32 * 1024 * 1024
_HASHED = re.compile(r"-[A-Za-z0-9_-]{8,}\.[a-z0-9]+$")
_FOREVER = "public, max-age=31536000, immutable"
_TYPES = {".js": "text/javascript", ".svg": "image/svg+xml", ".woff2": "font/woff2", ".html": "text/html"}


@dataclass(frozen=True, slots=True)
class _File:
    data: bytes
    media_type: str
    etag: str
    cache: str


class Page:
    """The files of a folder with an index.html. InvalidArgumentError where there is none, or too much."""

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, _File] = {}
        total = 0
        for path in sorted(folder.rglob("*")):
            if not path.is_file() or any(part.startswith(".") for part in path.relative_to(folder).parts):
                continue
            total += path.stat().st_size
            if total > PAGE_BYTES_MAX:
                raise InvalidArgumentError(f"{folder} holds more than {PAGE_BYTES_MAX} bytes: it is no built page")
            name = path.relative_to(folder).as_posix()
            self._files[name] = _read(path, name)
        if "index.html" not in self._files:
            raise InvalidArgumentError(f"{folder} has no index.html: build the page there (npm run build)")

    def answer(self, request: Request) -> Response:
        """Return the file that a request names, the page itself for a path of its own, or 404."""
        name = request.path_params.get("rest", "").strip("/")
        file = self._files.get(name)
        if file is None:
            if "." in name.rpartition("/")[2]:
                return answer(Refused(f"the page has no file {name[:200]!r}", "not_found"), 404)
            file = self._files["index.html"]
        headers = {"etag": file.etag, "cache-control": file.cache}
        if file.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(file.data, media_type=file.media_type, headers=headers)


def _read(path: Path, name: str) -> _File:
    data = path.read_bytes()
    kind = _TYPES.get(path.suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    return _File(
        data,
        kind,
        f'"{hashlib.sha256(data).hexdigest()[:32]}"',
        _FOREVER if _HASHED.search(name) else "no-cache",
    )
