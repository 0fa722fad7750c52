"""A Hugging Face Hub on 127.0.0.1, as far as weights are fetched from it and published to it; and its ways to fail.

Answers as the real one does: tensors lie in large file storage, to which a file's address redirects, on a second
server (another port) that must never see a token.
"""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import unquote

import yaml


class Request(NamedTuple):
    method: str
    path: str
    token: str | None
    server: str
    """ "hub" or "storage" """


@dataclass
class Repo:
    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Files by commit."""
    refs: dict[str, str] = field(default_factory=dict)
    """Commit by branch or tag."""

    def resolve(self, revision: str) -> str | None:
        return revision if revision in self.commits else self.refs.get(revision)


class FakeHub:
    """A context manager; while open it serves at `url`. A test may set the attributes at any time."""

    def __init__(self):
        self.repos: dict[str, Repo] = {}
        self.objects: dict[str, bytes] = {}
        """Large files by sha256."""
        self.requests: list[Request] = []
        self.tokens: set[str] = {"hf_reader"}
        """May read what is private or gated."""
        self.writers: set[str] = {"hf_writer"}
        """May publish."""
        self.status: int | None = None
        """Every answer is this error."""
        self.silent = False
        """Connections are accepted and never answered."""
        self.waited_s = 0.0
        """How long answers were held back, all together."""
        self.portal = False
        """Every answer is a login page."""
        self.drip = False
        """HEAD is answered by a byte now and then."""
        self.body = ""
        """What goes wrong with a file's body: fail, hang, hang midway, drip, slow, truncate, corrupt, longer."""
        self.pause_s = 0.9
        """How long a slow body is held back before every 1024 bytes of it."""
        self.announce: dict[str, int] = {}
        """Sizes that HEAD claims, by file."""
        self.without: set[str] = set()
        """Headers left out, in lower case."""
        self._closing = threading.Event()
        self._servers = {"hub": _serve(self, "hub"), "storage": _serve(self, "storage")}

    def __enter__(self) -> "FakeHub":
        for server in self._servers.values():
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._closing.set()
        for server in self._servers.values():
            server.shutdown()
            server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._servers['hub'].server_port}"

    @property
    def storage_url(self) -> str:
        return f"http://127.0.0.1:{self._servers['storage'].server_port}"

    def commit(self, repo: str, files: dict[str, bytes], *revisions: str) -> str:
        """Add a commit of these files, to which the revisions point from now on; returns it."""
        there = self.repos.setdefault(repo, Repo())
        commit = hashlib.sha1(f"{repo} {len(there.commits)}".encode()).hexdigest()
        there.commits[commit] = dict(files)
        there.refs |= dict.fromkeys(revisions or ["main"], commit)
        self.objects |= {sha256(data): data for name, data in files.items() if is_large(name)}
        return commit

    def asked_for(self) -> set[str]:
        """Names of the files that anyone asked for."""
        return {path.rsplit("/", 1)[-1] for _, path, *_ in self.requests if "/resolve/" in path}

    def wait(self, seconds: float) -> bool:
        """Sleep, but not beyond the end of the test; whether that is reached."""
        self.waited_s += seconds
        return self._closing.wait(seconds)


def is_large(name: str) -> bool:
    return name.endswith((".safetensors", ".bin", ".pkl", ".pt"))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def etag(name: str, data: bytes) -> str:
    return sha256(data) if is_large(name) else hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _serve(hub: FakeHub, name: str) -> ThreadingHTTPServer:
    handler = type("Handler", (_Handler,), {"hub": hub, "name": name})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    return server


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    name: str
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:  # the client had enough
            self.close_connection = True

    def _route(self) -> None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ") or None
        path = unquote(self.path.partition("?")[0])
        self.hub.requests.append(Request(self.command, path, token, self.name))
        body = self._read_body()
        if self.hub.silent:
            return self._hang()
        if self.hub.status:
            return self._error(self.hub.status)
        if self.hub.portal:
            return self._answer(200, b"<html>Please sign in</html>", {"Content-Type": "text/html"})
        if self.command == "HEAD" and self.hub.drip:
            return self._drip_head()
        for method, pattern, answer in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match and self.command in method:
                return answer(self, *match.groups(), body=body, token=token)
        return self._error(404)

    do_GET = do_HEAD = do_POST = do_PUT = _route

    # Reading

    def _resolve(self, repo: str, revision: str, name: str, *, body: bytes, token: str | None) -> None:
        there = self.hub.repos.get(repo)
        known = token in self.hub.tokens | self.hub.writers
        if there is None or (there.private and not known):
            return self._error(404 if known else 401, "RepoNotFound")
        if there.gated and not known:
            return self._error(403 if token else 401, "GatedRepo")
        commit = there.resolve(revision)
        if commit is None:
            return self._error(404, "RevisionNotFound")
        headers = {"X-Repo-Commit": commit}
        if name not in there.commits[commit]:
            return self._error(404, "EntryNotFound", headers)
        data = there.commits[commit][name]
        size = str(self.hub.announce.get(name, len(data)))
        if is_large(name):
            headers |= {"X-Linked-Etag": f'"{etag(name, data)}"', "X-Linked-Size": size}
            headers["Location"] = f"{self.hub.storage_url}/lfs/{etag(name, data)}"
            return self._answer(302, b"", headers)
        headers["ETag"] = f'"{etag(name, data)}"'
        if self.command == "HEAD":
            return self._answer(200, b"", headers | {"Content-Length": size})
        return self._send_file(data, headers)

    def _read_object(self, oid: str, *, body: bytes, token: str | None) -> None:
        if self.name != "storage" or oid not in self.hub.objects:
            return self._error(404)
        return self._send_file(self.hub.objects[oid], {})

    def _model_info(self, repo: str, *, body: bytes, token: str | None) -> None:
        there = self.hub.repos.get(repo)
        if there is None or (there.private and token not in self.hub.tokens | self.hub.writers):
            return self._error(401, "RepoNotFound")
        commit = there.refs.get("main")
        siblings = [{"rfilename": name} for name in there.commits.get(commit, {})]
        return self._json({"id": repo, "sha": commit, "private": there.private, "siblings": siblings})

    def _tree(self, repo: str, commit: str, *, body: bytes, token: str | None) -> None:
        files = self.hub.repos[repo].commits[commit]
        tree = [{"type": "file", "path": n, "oid": etag("", d), "size": len(d)} for n, d in files.items()]
        for item in tree:
            if is_large(item["path"]):
                item["lfs"] = {"oid": sha256(files[item["path"]]), "size": item["size"], "pointerSize": 130}
        return self._json(tree)

    # Publishing

    def _create_repo(self, *, body: bytes, token: str | None) -> None:
        if token not in self.hub.writers:
            return self._error(403 if token else 401)
        asked = json.loads(body)
        repo = f"{asked['organization']}/{asked['name']}"
        made = repo not in self.hub.repos
        if made:
            self.hub.repos[repo] = Repo(private=asked.get("visibility") == "private")
        return self._json({"url": f"{self.hub.url}/{repo}"}, 200 if made else 409)

    def _validate_yaml(self, *, body: bytes, token: str | None) -> None:
        try:
            yaml.safe_load(json.loads(body)["content"].split("---\n")[1])
        except (yaml.YAMLError, IndexError) as error:
            return self._json({"errors": [{"message": str(error)}]}, 400)
        return self._json({"errors": [], "warnings": []})

    def _preupload(self, repo: str, *, body: bytes, token: str | None) -> None:
        there = self.hub.repos[repo]
        now = there.commits.get(there.refs.get("main"), {})
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if is_large(file["path"]) else "regular",
                "shouldIgnore": False,
                "oid": etag(file["path"], now[file["path"]]) if file["path"] in now else None,
            }
            for file in json.loads(body)["files"]
        ]
        return self._json({"files": files})

    def _lfs_batch(self, repo: str, *, body: bytes, token: str | None) -> None:
        objects = json.loads(body)["objects"]
        for item in objects:
            if item["oid"] not in self.hub.objects:
                item["actions"] = {"upload": {"href": f"{self.hub.storage_url}/lfs/{item['oid']}"}}
        return self._json({"objects": objects, "transfer": "basic"})

    def _write_object(self, oid: str, *, body: bytes, token: str | None) -> None:
        if sha256(body) != oid:
            return self._error(400)
        self.hub.objects[oid] = body
        return self._answer(200, b"", {})

    def _commit(self, repo: str, *, body: bytes, token: str | None) -> None:
        if token not in self.hub.writers:
            return self._error(403)
        there = self.hub.repos[repo]
        files = dict(there.commits.get(there.refs.get("main"), {}))
        for line in body.splitlines():
            item = json.loads(line)
            path = item["value"].get("path")
            if item["key"] == "file":
                files[path] = base64.b64decode(item["value"]["content"])
            elif item["key"] == "lfsFile":
                files[path] = self.hub.objects[item["value"]["oid"]]
            elif item["key"] == "deletedFile":
                del files[path]
        commit = self.hub.commit(repo, files)
        return self._json({"commitUrl": f"{self.hub.url}/{repo}/commit/{commit}", "commitOid": commit})

    # Answering

    def _read_body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _json(self, value: dict | list, status: int = 200) -> None:
        self._answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _error(self, status: int, code: str = "", headers: dict[str, str] | None = None) -> None:
        self._answer(status, b"", (headers or {}) | ({"X-Error-Code": code} if code else {}))

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self._start(status, {"Content-Length": str(len(body))} | headers)
        if self.command != "HEAD":
            self.wfile.write(body)

    def _start(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in self.hub.without:
                self.send_header(name, value)
        self.end_headers()

    def _hang(self) -> None:
        self.close_connection = True
        self.hub.wait(30)

    def _drip(self, data: bytes) -> None:
        for byte in data:
            if self.hub.wait(0.3):
                return
            self.wfile.write(bytes([byte]))

    def _drip_head(self) -> None:
        self.close_connection = True
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        self._drip(b"X-Slow: " + b"." * 1000)

    def _send_file(self, data: bytes, headers: dict[str, str]) -> None:
        fault = self.hub.body
        if fault == "fail":
            return self._error(503)
        if fault == "hang":
            return self._hang()
        if fault == "corrupt":
            data = bytes([data[0] ^ 1]) + data[1:]
        if fault == "longer":
            data = data + b"\n"
        self._start(200, headers | {"Content-Length": str(len(data))})
        half = len(data) // 2
        if fault in ("hang midway", "truncate", "drip"):
            self.close_connection = True
            self.wfile.write(data[:half])
            self.wfile.flush()
        if fault == "hang midway":
            self._hang()
        elif fault == "drip":
            self._drip(data[half:])
        elif fault == "slow":
            for start in range(0, len(data), 1024):
                self.hub.wait(self.hub.pause_s)
                self.wfile.write(data[start : start + 1024])
        elif fault != "truncate":
            self.wfile.write(data)
        return None


_REPO = r"([\w.-]+/[\w.-]+)"
_ROUTES = [
    (("GET", "HEAD"), rf"/{_REPO}/resolve/(.+)/([^/]+)", _Handler._resolve),
    (("GET", "HEAD"), r"/lfs/(\w+)", _Handler._read_object),
    (("GET",), rf"/api/models/{_REPO}", _Handler._model_info),
    (("GET",), rf"/api/models/{_REPO}/revision/main", _Handler._model_info),
    (("GET",), rf"/api/models/{_REPO}/tree/(\w+)", _Handler._tree),
    (("POST",), r"/api/repos/create", _Handler._create_repo),
    (("POST",), r"/api/validate-yaml", _Handler._validate_yaml),
    (("POST",), rf"/api/models/{_REPO}/preupload/main", _Handler._preupload),
    (("POST",), rf"/{_REPO}\.git/info/lfs/objects/batch", _Handler._lfs_batch),
    (("PUT",), r"/lfs/(\w+)", _Handler._write_object),
    (("POST",), rf"/api/models/{_REPO}/commit/main", _Handler._commit),
]
