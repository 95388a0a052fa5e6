"""What huggingface_hub needs of the hub to make a repository, fill it and fetch it, on loopback."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


class Hub(ThreadingHTTPServer):
    """Repositories in memory, for whoever has the token.

    Attributes:
      repositories: by their names, with `private` and `commits`, a list of dicts of files.
    """

    TOKEN = "hf_of_the_tests"

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict] = {}
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        if parts[:2] == ["api", "models"]:
            name, kind, revision = "/".join(parts[2:4]), *[*parts[4:6], "revision", "main"][:2]
        else:
            name, kind, revision = "/".join(parts[:2]), *[*parts[2:4], "", ""][:2]
        repository, files = self._find(name, revision)
        if files is None:
            code = "RevisionNotFound" if repository else "RepoNotFound"
            self._answer({"error": f"no {name} at {revision}"}, status=404, **{"X-Error-Code": code})
        elif kind == "revision":
            info = {"id": name, "sha": self._sha(files), "private": repository["private"]}
            self._answer(info | {"siblings": [{"rfilename": path} for path in files]})
        elif kind == "tree":
            self._answer([
                {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for path, data in files.items()
            ])  # fmt: skip
        elif "/".join(parts[4:]) in files:
            data = files["/".join(parts[4:])]
            etag = f'"{hashlib.sha1(data).hexdigest()}"'
            self._answer(data, **{"ETag": etag, "X-Repo-Commit": self._sha(files)})
        else:
            self._answer({"error": "no such file"}, status=404, **{"X-Error-Code": "EntryNotFound"})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = urlsplit(self.path).path
        if path == "/api/validate-yaml":
            return self._answer({"errors": [], "warnings": []})
        if self.headers.get("Authorization") != f"Bearer {self.server.TOKEN}":
            return self._answer({"error": "Invalid username or password."}, status=401)
        if path == "/api/repos/create":
            wanted = json.loads(body)
            name = "/".join(filter(None, (wanted.get("organization"), wanted["name"])))
            url = {"url": f"{self.server.url}/{name}", "name": name}
            if name in self.server.repositories:
                return self._answer(url | {"error": "You already created this repo"}, status=409)
            private = wanted.get("private") or wanted.get("visibility") == "private"
            self.server.repositories[name] = {"private": bool(private), "commits": [{}]}
            return self._answer(url)
        _, _, _, owner, name, kind, revision = path.split("/")
        repository, files = self._find(f"{owner}/{name}", revision)
        if kind == "preupload":
            modes = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                     for file in json.loads(body)["files"]]  # fmt: skip
            return self._answer({"files": modes})
        files = dict(files)
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        repository["commits"].append(files)
        sha = self._sha(files)
        return self._answer({"commitUrl": f"{self.server.url}/{owner}/{name}/commit/{sha}", "commitOid": sha})

    def _find(self, name: str, revision: str):
        repository = self.server.repositories.get(name)
        allowed = self.headers.get("Authorization") == f"Bearer {self.server.TOKEN}"
        if repository is None or (repository["private"] and not allowed):
            return None, None
        by_revision = {self._sha(files): files for files in repository["commits"]}
        return repository, (by_revision | {"main": repository["commits"][-1]}).get(revision)

    @staticmethod
    def _sha(files: dict[str, bytes]) -> str:
        return hashlib.sha1(b"".join(name.encode() + files[name] for name in sorted(files))).hexdigest()

    def _answer(self, content, status: int = 200, **headers: str):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_):
        pass
