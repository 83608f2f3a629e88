"""A small hub on loopback that speaks what huggingface_hub asks for: data sets and models, commits, files."""

import base64
import hashlib
import json
from collections import defaultdict
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit


KINDS = ("datasets", "models")
LARGE = (".parquet", ".safetensors", ".gguf")


class Hub:
    """Repositories by id: their files, whether they are private, and the files of each commit in order."""

    def __init__(self):
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.commits: dict[str, list[dict[str, list[str]]]] = defaultdict(list)
        self.large: dict[str, bytes] = {}
        self.refuse_next_commit = False
        self.refuse_cards = False
        self.unknown: list[str] = []
        self.url = ""

    def sha(self, repo: str) -> str:
        return hashlib.sha1(f"{repo}{len(self.commits[repo])}".encode()).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_):
        pass

    def answer(self, body: object = None, status: int = 200, headers: dict | None = None, send: bool = True) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/octet-stream" if isinstance(body, bytes) else "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if send:
            self.wfile.write(content)

    def missing(self) -> None:
        self.hub.unknown.append(f"{self.command} {self.path}")
        self.answer({"error": "Not found"}, 404, {"X-Error-Code": "EntryNotFound"}, self.command != "HEAD")

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def parts(self) -> list[str]:
        return unquote(urlsplit(self.path).path).strip("/").split("/")

    def of_a_repository(self, parts: list[str], what: str) -> bool:
        return parts[0] == "api" and parts[1] in KINDS and parts[4:5] == [what]

    def do_POST(self):
        hub, parts, body = self.hub, self.parts(), self.body()
        if parts == ["api", "repos", "create"]:
            asked = json.loads(body)
            repo = "/".join(filter(None, [asked.get("organization") or "me", asked["name"]]))
            url = f"{hub.url}/datasets/{repo}" if asked.get("type") == "dataset" else f"{hub.url}/{repo}"
            if repo in hub.files:
                self.answer({"error": "exists", "url": url}, 409)
                return
            hub.files[repo], hub.private[repo] = (
                {},
                asked.get("private", False) or asked.get("visibility") == "private",
            )
            self.answer({"url": url, "name": repo, "id": repo})
        elif self.of_a_repository(parts, "preupload"):
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            self.answer({"files": files})
        elif self.of_a_repository(parts, "commit"):
            self.commit("/".join(parts[2:4]), body)
        elif self.of_a_repository(parts, "paths-info"):
            repo = "/".join(parts[2:4])
            wanted = json.loads(body)["paths"]
            self.answer([self.entry(repo, path) for path in wanted if path in hub.files[repo]])
        elif parts[-2:] == ["objects", "batch"]:
            objects = [
                {**asked, "actions": {"upload": {"href": f"{hub.url}/lfs/{asked['oid']}"}}}
                for asked in json.loads(body)["objects"]
            ]
            self.answer({"transfer": "basic", "objects": objects})
        elif parts == ["api", "validate-yaml"]:
            self.answer({"errors": [], "warnings": []}, 400 if hub.refuse_cards else 200)
        else:
            self.missing()

    def do_PUT(self):
        self.hub.large[self.parts()[-1]] = self.body()
        self.answer({})

    def commit(self, repo: str, body: bytes) -> None:
        hub = self.hub
        if hub.refuse_next_commit:
            hub.refuse_next_commit = False
            self.answer({"error": "Service unavailable"}, 403)
            return
        changed: dict[str, list[str]] = defaultdict(list)
        for line in body.splitlines():
            entry = json.loads(line)
            key, value = entry["key"], entry["value"]
            if key == "file":
                hub.files[repo][value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                hub.files[repo][value["path"]] = hub.large[value["oid"]]
            elif key == "deletedFile":
                del hub.files[repo][value["path"]]
            if "path" in value:
                changed[key].append(value["path"])
        hub.commits[repo].append(changed)
        url = f"{hub.url}/datasets/{repo}/commit/{hub.sha(repo)}"
        self.answer({"success": True, "commitOid": hub.sha(repo), "commitUrl": url})

    def entry(self, repo: str, path: str) -> dict:
        content = self.hub.files[repo][path]
        return {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}

    def do_GET(self):
        self.get(send=True)

    def do_HEAD(self):
        self.get(send=False)

    def get(self, *, send: bool) -> None:
        hub, parts = self.hub, self.parts()
        if parts[:2] == ["api", "whoami-v2"]:
            self.answer({"name": "me", "type": "user", "orgs": []})
        elif parts[0] == "api" and parts[1] in KINDS and "/".join(parts[2:4]) in hub.files:
            repo, rest = "/".join(parts[2:4]), parts[4:]
            if not rest or rest[0] == "revision":
                siblings = [{"rfilename": path} for path in sorted(hub.files[repo])]
                self.answer(
                    {
                        "id": repo,
                        "sha": hub.sha(repo),
                        "private": hub.private[repo],
                        "siblings": siblings,
                        "tags": [],
                        "downloads": 0,
                        "likes": 0,
                    }
                )
            elif rest[0] == "tree":
                under = "/".join(rest[2:])
                self.answer([self.entry(repo, path) for path in sorted(hub.files[repo]) if path.startswith(under)])
            else:
                self.missing()
        elif "resolve" in (parts[2:3] + parts[3:4]):
            *_, owner, name = parts[: parts.index("resolve")]
            repo, path = f"{owner}/{name}", "/".join(parts[parts.index("resolve") + 2 :])
            content = hub.files.get(repo, {}).get(path)
            if content is None:
                self.missing()
                return
            headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": hub.sha(repo)}
            asked = self.headers.get("Range")
            if asked:
                first, _, last = asked.removeprefix("bytes=").partition("-")
                end = min(int(last or len(content) - 1), len(content) - 1)
                part = content[int(first) : end + 1]
                headers["Content-Range"] = f"bytes {first}-{end}/{len(content)}"
                self.answer(part, 206, headers, send)
            else:
                self.answer(content, 200, headers, send)
        else:
            self.missing()


@contextmanager
def hub_server():
    """Yield a hub that answers at its `url` until the block ends."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
