"""The Hub's protocol over HTTP, as much of it as pushing and pulling needs."""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from loopback.repositories import MAIN, Blob, Hub, Refused

ROUTES = [
    ("GET", r"/api/whoami-v2", "whoami"),
    ("POST", r"/api/repos/create", "create"),
    ("POST", r"/api/validate-yaml", "validate"),
    ("GET", r"/api/models/(?P<repo>[^/]+/[^/]+)(/revision/(?P<rev>[^/]+))?", "info"),
    ("GET", r"/api/models/(?P<repo>[^/]+/[^/]+)/tree/(?P<rev>[^/]+)", "tree"),
    ("GET", r"/api/models/(?P<repo>[^/]+/[^/]+)/refs", "refs"),
    ("POST", r"/api/models/(?P<repo>[^/]+/[^/]+)/preupload/(?P<rev>[^/]+)", "preupload"),
    ("POST", r"/api/models/(?P<repo>[^/]+/[^/]+)/commit/(?P<rev>[^/]+)", "commit"),
    ("POST", r"/api/models/(?P<repo>[^/]+/[^/]+)/branch/(?P<rev>[^/]+)", "branch"),
    ("POST", r"/api/models/(?P<repo>[^/]+/[^/]+)/tag/(?P<rev>[^/]+)", "tag"),
    ("POST", r"/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch", "batch"),
    ("PUT", r"/large/(?P<oid>[0-9a-f]{64})", "put"),
    ("(HEAD|GET)", r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<rev>[^/]+)/(?P<path>.+)", "resolve"),
    ("GET", r"/large/(?P<oid>[0-9a-f]{64})/(?P<path>.+)", "get"),
]


class Server:
    """A Hub that listens on this machine as long as the context lasts.

    ``hub`` is what it keeps, ``faults`` what goes wrong, ``requests`` what it was asked: "METHOD /path".
    """

    def __init__(self) -> None:
        self.hub, self.faults, self.requests = Hub(), [], []
        self.lock = threading.Lock()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"server_of": self}))
        self.http.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.http.server_port}"
        self.elsewhere = f"http://localhost:{self.http.server_port}"  # large files have a host of their own

    def __enter__(self) -> Server:
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.http.server_close()

    def fault(self, kind: str, request: str) -> float | str | None:
        """The value of a fault of this kind that now happens; None where all goes well."""
        with self.lock:
            return next((fault.value for fault in self.faults if fault.strikes(kind, request)), None)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_of: Server

    def log_message(self, *_: object) -> None:
        """Nothing: what was asked is in ``requests``."""

    def do_GET(self) -> None:
        split = urlsplit(self.path)
        self.asked = f"{self.command} {unquote(split.path)}"
        self.query = {key: values[0] for key, values in parse_qs(split.query).items()}
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server_of.requests.append(self.asked)
        time.sleep(float(self.server_of.fault("silent", self.asked) or 0))
        try:
            status = self.server_of.fault("status", self.asked)
            if status is not None:
                raise Refused(int(status), "Out of order")
            for method, pattern, action in ROUTES:
                found = re.fullmatch(pattern, split.path)
                if found and re.fullmatch(method, self.command):
                    words = {key: unquote(value) for key, value in found.groupdict().items() if value is not None}
                    with self.server_of.lock:
                        answer = getattr(self, f"on_{action}")(**words)
                    return self.send(*answer)
            raise Refused(404, f"No such page: {self.asked}")
        except Refused as refused:
            self.send_refusal(refused)

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

    @property
    def hub(self) -> Hub:
        return self.server_of.hub

    @property
    def user(self) -> str | None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        return self.hub.user(token or None)

    # -- answers: status, headers, body ------------------------------------------------------------------------------

    def on_whoami(self):
        if self.user is None:
            raise Refused(401, "Invalid username or password.")
        return as_json({"name": self.user, "type": "user"})

    def on_create(self):
        asked = json.loads(self.body)
        name = f"{asked.get('organization') or self.user}/{asked['name']}"
        address = {"url": f"{self.server_of.endpoint}/{name}"}
        try:
            self.hub.create(name, self.user, private=asked.get("visibility") == "private")
        except Refused as refused:
            if refused.status != 409:
                raise
            return as_json({**address, "error": refused.message}, 409)
        return as_json(address)

    def on_validate(self):
        return as_json({"warnings": [], "errors": []})

    def on_info(self, repo, rev=MAIN):
        repository = self.hub.visible(repo, self.user)
        commit = repository.find(rev)
        siblings = [{"rfilename": path} for path in commit.files]
        return as_json({
            "id": repo, "sha": commit.oid, "private": repository.private, "siblings": siblings,
            "gated": "manual" if repository.gated else False, "tags": [],
        })  # fmt: skip

    def on_tree(self, repo, rev):
        files = self.hub.readable(repo, self.user).find(rev).files
        return as_json([blob.describe(path) for path, blob in files.items()])

    def on_refs(self, repo):
        repository = self.hub.visible(repo, self.user)

        def refs(kind, targets):
            return [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": oid} for name, oid in targets.items()]

        return as_json({
            "branches": refs("heads", repository.branches), "tags": refs("tags", repository.tags), "converts": [],
        })  # fmt: skip

    def on_preupload(self, repo, rev):
        there = self.hub.writable(repo, self.user).find(rev).files
        files = []
        for file in json.loads(self.body)["files"]:
            path = file["path"]
            mode = "lfs" if path.endswith((".safetensors", ".png")) else "regular"
            oid = {"oid": there[path].etag} if path in there else {}
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, **oid})
        return as_json({"files": files})

    def on_batch(self, repo):
        self.hub.writable(repo, self.user)
        objects = []
        for file in json.loads(self.body)["objects"]:
            href = {"href": f"{self.server_of.endpoint}/large/{file['oid']}"}
            objects.append({**file, **({} if file["oid"] in self.hub.large else {"actions": {"upload": href}})})
        return as_json({"transfer": "basic", "objects": objects})

    def on_put(self, oid):
        if Blob(self.body, large=True).sha256 != oid:
            raise Refused(400, "The content has another sha256")
        self.hub.large[oid] = self.body
        return 200, {}, b""

    def on_commit(self, repo, rev):
        repository = self.hub.writable(repo, self.user)
        lines = [json.loads(line) for line in self.body.splitlines()]
        header = lines[0]["value"]
        files, deleted = {}, []
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = Blob(base64.b64decode(value["content"]), large=False)
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.hub.large:
                    raise Refused(400, f"{value['path']} was not uploaded")
                files[value["path"]] = Blob(self.hub.large[value["oid"]], large=True)
            else:
                deleted.append(value["path"])
        if any(fault.strikes("overtake", self.asked) for fault in self.server_of.faults):
            repository.add(rev, "somebody else was faster", {"notes.txt": Blob(str(time.time()).encode(), large=False)})
        repository.find(rev)
        commit = repository.add(rev, header["summary"], files, tuple(deleted), header.get("parentCommit"))
        return as_json({
            "commitOid": commit.oid, "commitUrl": f"{self.server_of.endpoint}/{repo}/commit/{commit.oid}",
        })  # fmt: skip

    def on_branch(self, repo, rev):
        repository = self.hub.writable(repo, self.user)
        if rev in repository.branches:
            raise Refused(409, f"Reference already exists: {rev}")
        start = json.loads(self.body or b"{}").get("startingPoint") or MAIN
        repository.branches[rev] = repository.find(start).oid
        return as_json({})

    def on_tag(self, repo, rev):
        repository, tag = self.hub.writable(repo, self.user), json.loads(self.body)["tag"]
        if tag in repository.tags:
            raise Refused(409, f"Tag reference exists already: {tag}")
        repository.tags[tag] = repository.find(rev).oid
        return as_json({})

    def on_resolve(self, repo, rev, path):
        commit = self.hub.readable(repo, self.user).find(rev)
        if path not in commit.files:
            raise Refused(404, "Entry not found", "EntryNotFound", commit.oid)
        blob = commit.files[path]
        headers = {"X-Repo-Commit": commit.oid}
        if not blob.large:
            return 200, {**headers, "ETag": f'"{blob.etag}"'}, blob.content
        headers |= {"X-Linked-Etag": f'"{blob.etag}"', "X-Linked-Size": str(len(blob.content))}
        return 302, {**headers, "Location": f"{self.server_of.elsewhere}/large/{blob.etag}/{path}"}, b""

    def on_get(self, oid, path):
        if "Authorization" in self.headers:
            raise Refused(400, "A token has gone to another host")
        return 200, {"ETag": f'"{oid}"'}, self.hub.large[oid]

    # -- sending -----------------------------------------------------------------------------------------------------

    def send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        """Send an answer, or what a fault makes of it."""
        fault, asked = self.server_of.fault, self.asked
        time.sleep(float(fault("mute", asked) or 0))
        if self.command == "GET" and (found := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))):
            start = int(found[1])
            headers = {**headers, "Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}
            status, body = 206, body[start:]
        if body and fault("flip", asked) is not None:
            body = body[: len(body) // 2] + bytes([body[len(body) // 2] ^ 1]) + body[len(body) // 2 + 1 :]
        if body and self.command == "GET" and fault("short", asked) is not None:
            body = body[:-1]
        if body and self.command == "GET" and fault("endless", asked) is not None:
            body = body * 3
        if (header := fault("header", asked)) is not None:
            name, _, value = str(header).partition(": ")
            headers = {**headers, name: value}
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if body and fault("drop", asked) is not None:
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            return
        if body and (seconds := fault("slow", asked)) is not None:
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            time.sleep(float(seconds))
            body = body[len(body) // 2 :]
        try:
            self.wfile.write(body)
        except OSError:  # who asked has gone
            self.close_connection = True

    def send_refusal(self, refused: Refused) -> None:
        """Send an error, as the client looks for it."""
        headers = {"X-Error-Message": refused.message}
        if refused.code:
            headers["X-Error-Code"] = refused.code
        if refused.commit:
            headers["X-Repo-Commit"] = refused.commit
        status, more, body = as_json({"error": refused.message}, refused.status)
        self.send(status, {**headers, **more}, body)


def as_json(value: object, status: int = 200) -> tuple[int, dict[str, str], bytes]:
    """An answer of JSON."""
    return status, {"Content-Type": "application/json"}, json.dumps(value).encode()
