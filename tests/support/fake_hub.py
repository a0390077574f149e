"""A fake of the Hugging Face hub on loopback: as much of its HTTP as huggingface_hub's client asks of one repository.

Nothing is checked but that a token comes along; every file is small, so the client sends it inside the commit.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass
class Hub:
    """Repositories as lists of commits, each all files by name; ``asked`` are the paths of all requests."""

    url: str = ""
    token: str = "hf_" + "secret" * 5
    repositories: dict[str, list[dict[str, bytes]]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def commit(self, repository: str, revision: str) -> tuple[str, dict[str, bytes]]:
        """The hash of a commit and its files; ``main`` is the last one."""
        commits = self.repositories[repository]
        number = len(commits) - 1 if revision == "main" else int(revision, 16)
        return f"{number:040x}", commits[number]


@contextmanager
def fake_hub() -> Iterator[Hub]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def answer(self, content: bytes | dict | list, status: int = 200, **headers: str) -> None:
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append(f"{self.command} {path}")
            parts = path.strip("/").split("/")
            name = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
            allowed = self.headers.get("Authorization") == f"Bearer {hub.token}"
            if name not in hub.repositories or (hub.private[name] and not allowed):
                return self.answer(b"Repository Not Found", 404, X_Error_Code="RepoNotFound")
            if "resolve" in parts:
                commit, files = hub.commit(name, parts[3])
                content = files.get("/".join(parts[4:]))
                if content is None:
                    return self.answer(b"Entry Not Found", 404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
                etag = f'"{hashlib.sha256(content).hexdigest()}"'
                return self.answer(content, X_Repo_Commit=commit, ETag=etag)
            commit, files = hub.commit(name, parts[5] if len(parts) > 5 else "main")
            if "tree" in parts:
                return self.answer([{"type": "file", "path": one, "size": len(content), "oid": "0" * 40}
                                    for one, content in files.items()])  # fmt: skip
            self.answer({"id": name, "modelId": name, "sha": commit, "private": hub.private[name], "tags": [],
                         "downloads": 0, "siblings": [{"rfilename": one} for one in files]})  # fmt: skip

        do_HEAD = do_GET

        def do_POST(self) -> None:
            path, body = unquote(urlsplit(self.path).path), self.body()
            hub.asked.append(f"POST {path}")
            if self.headers.get("Authorization") != f"Bearer {hub.token}":
                return self.answer(b"{}", 401)
            parts = path.strip("/").split("/")
            if path == "/api/validate-yaml":
                return self.answer({"errors": [], "warnings": []})
            if path == "/api/repos/create":
                asked = json.loads(body)
                name = f"{asked['organization']}/{asked['name']}"
                if name in hub.repositories:
                    return self.answer({"url": f"{hub.url}/{name}"}, 409)
                hub.repositories[name] = [{".gitattributes": b""}]
                hub.private[name] = asked.get("visibility") == "private" or bool(asked.get("private"))
                return self.answer({"url": f"{hub.url}/{name}", "id": name})
            name = "/".join(parts[2:4])
            if parts[4] == "preupload":
                asked = json.loads(body)["files"]
                return self.answer({"files": [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                                              for one in asked]})  # fmt: skip
            files = dict(hub.repositories[name][-1])
            for line in filter(None, body.splitlines()):
                one = json.loads(line)
                if one["key"] == "file":
                    files[one["value"]["path"]] = base64.b64decode(one["value"]["content"])
                elif one["key"] == "deletedFile":
                    del files[one["value"]["path"]]
            hub.repositories[name].append(files)
            commit, _ = hub.commit(name, "main")
            self.answer({"commitOid": commit, "commitUrl": f"{hub.url}/{name}/commit/{commit}", "success": True})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
