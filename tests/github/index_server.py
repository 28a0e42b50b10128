"""A package index on loopback with made-up packages, as pip and uv ask for them (PEP 503).

In a test::

    with IndexServer() as index:
        locked = index.add_wheel("dep", "1.0", {"dep.py": "VERSION = '1.0'"})
        index.add_wheel("dep", "2.0", {"dep.py": "VERSION = '2.0'"})
        index.url, index.asked
"""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping

from tests.loopback import Handler, HttpServer, Loopback


class IndexServer(Loopback):
    """``asked`` are the names of the projects and of the files that were requested, in order."""

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.asked: list[str] = []
        self.files: dict[str, bytes] = {}
        """The bytes of each file that can be had, by its name."""

    @property
    def url(self) -> str:
        return f"{self.origin}/simple"

    def add_wheel(self, name: str, version: str, modules: Mapping[str, str], *requires: str) -> str:
        """Publish a wheel of these modules; the line that locks it."""
        folder = f"{name}-{version}.dist-info"
        needs = "".join(f"Requires-Dist: {each}\n" for each in requires)
        contents = {
            **modules,
            f"{folder}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
            f"{folder}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = "".join(f"{path},{_digest(text)},{len(text)}\n" for path, text in contents.items())
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w") as wheel:
            for path, text in {**contents, f"{folder}/RECORD": f"{record}{folder}/RECORD,,\n"}.items():
                wheel.writestr(path, text)
        return self._add(name, version, f"{name}-{version}-py3-none-any.whl", data.getvalue())

    def add_source(self, name: str, version: str, setup: str) -> str:
        """Publish a source distribution with this ``setup.py``; the line that locks it."""
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w:gz") as archive:
            info = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            for path, text in {"setup.py": setup, "PKG-INFO": info}.items():
                member = tarfile.TarInfo(f"{name}-{version}/{path}")
                member.size = len(text)
                archive.addfile(member, io.BytesIO(text.encode()))
        return self._add(name, version, f"{name}-{version}.tar.gz", data.getvalue())

    def _add(self, name: str, version: str, file: str, data: bytes) -> str:
        self.files[file] = data
        return f"{name}=={version} \\\n    --hash=sha256:{hashlib.sha256(data).hexdigest()}\n"


def _digest(text: str) -> str:
    """As a wheel's RECORD has it."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
    return f"sha256={digest.decode().rstrip('=')}"


class _Server(HttpServer):
    owner: IndexServer


class _Handler(Handler):
    server: _Server

    def do_GET(self) -> None:
        name = self.path.rstrip("/").rpartition("/")[2]
        index = self.server.owner
        index.asked.append(name)
        if self.path.startswith("/files/"):
            self._answer(index.files.get(name), "application/octet-stream")
            return
        files = [file for file in index.files if file.startswith(f"{name}-")]
        page = "".join(f'<a href="/files/{file}">{file}</a>\n' for file in files)
        self._answer(page.encode() or None, "text/html")

    do_HEAD = do_GET

    def _answer(self, data: bytes | None, kind: str) -> None:
        self.send_response(200 if data is not None else 404)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data or b"")))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data or b"")
