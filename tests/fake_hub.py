"""A hub on loopback that speaks the Hub's HTTP API as far as the real clients ask for it; what it does not know is a 404.

Repositories of the three kinds, commits with large files beside them, revisions, tags, trees, files in parts, a Space's
variables, duplicates, tokens. `hub.fault` may spoil any request. Clients need HF_ENDPOINT and HF_HUB_DISABLE_XET=1.
"""

import base64
import hashlib
import io
import json
from collections import defaultdict
from collections.abc import Callable
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from urllib.parse import parse_qs, unquote, urlsplit


KINDS = ("models", "datasets", "spaces")
LARGE = (".parquet", ".safetensors", ".gguf")


class Hub:
    """Repositories by id. With a token it must be shown to write and to see what is private; without, anybody may.

    `fault` is asked with the number and the line of each request: a status is answered in place of doing it, "cut" ends the
    connection without doing it, "late" does it and loses the answer.
    """

    def __init__(self, token: str = ""):
        self.token, self.url, self.lock = token, "", Lock()
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.kinds: dict[str, str] = defaultdict(lambda: "models")
        self.variables: dict[str, dict[str, str]] = defaultdict(dict)
        self.tags: dict[str, dict[str, str]] = defaultdict(dict)
        self.commits: dict[str, list[dict[str, list[str]]]] = defaultdict(list)
        self.history: dict[str, dict[str, bytes]] = {}  # the files of each commit
        self.large: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.fault: Callable[[int, str], int | str | None] = lambda number, request: None
        self.refuse_next_commit = False
        self.refuse_cards = False

    def sha(self, repo: str) -> str:
        return hashlib.sha1(f"{repo}{len(self.commits[repo])}".encode()).hexdigest()

    def at(self, repo: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Return a revision's commit and files, or None where there is no such revision."""
        commit = self.sha(repo) if revision == "main" else self.tags[repo].get(revision, revision)
        files = self.files[repo] if commit == self.sha(repo) else self.history.get(commit)
        return None if files is None else (commit, files)

    def add(self, repo: str, kind: str, files: dict, private: bool, variables: dict) -> None:
        self.files[repo], self.kinds[repo], self.private[repo] = files, kind, private
        self.variables[repo] = variables

    def address(self, repo: str) -> str:
        return f"{self.url}/{'' if self.kinds[repo] == 'models' else self.kinds[repo] + '/'}{repo}"


def described(path: str, content: bytes) -> dict:
    """Describe a file as trees do: git's hash of it, and where it is large, the sha256 of what its pointer stands for."""
    entry = {"type": "file", "path": path, "size": len(content), "oid": git_hash(content)}
    if not path.endswith(LARGE):
        return entry
    return {**entry, "lfs": {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}}


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def oid(path: str, content: bytes) -> str:
    """The hash by which a client knows a file again: of what is in it, however large it is."""
    entry = described(path, content)
    return entry.get("lfs", entry)["oid"]


def listed(files: dict[str, bytes], under: str, recursive: bool) -> list[dict]:
    prefix = f"{under}/" if under else ""
    inside = {path: content for path, content in sorted(files.items()) if path.startswith(prefix) or path == under}
    folders = {path[: place + 1] for path in inside for place in range(len(prefix), len(path)) if path[place] == "/"}
    entries = [{"type": "directory", "path": name[:-1], "oid": git_hash(name.encode())} for name in sorted(folders)]
    entries += [described(path, content) for path, content in inside.items()]
    return [entry for entry in entries if recursive or "/" not in entry["path"][len(prefix) :]]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer waits 40 ms for the client to acknowledge its headers
    hub: Hub

    def log_message(self, *_):
        pass

    def handle_request(self) -> None:
        """Do one request, or fail at it as a test asks."""
        self.content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        address = urlsplit(self.path)
        self.parts, self.query = unquote(address.path).strip("/").split("/"), parse_qs(address.query)
        request = f"{self.command} {address.path}"
        with self.hub.lock:
            fault = self.hub.fault(len(self.hub.requests), request)
            self.hub.requests.append(request)
        if fault in ("cut", "late"):
            self.close_connection = True
        if fault == "late":
            self.wfile = io.BytesIO()
        if isinstance(fault, int):
            self.answer({"error": "As the test asked."}, fault)
        elif fault != "cut":
            self.route()

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_request

    def answer(self, body: object = None, status: int = 200, **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        self.send_response(status)
        for name, value in {**headers, "Content-Type": kind, "Content-Length": str(len(content))}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def missing(self, what: str = "Entry", status: int = 404) -> None:
        self.answer({"error": f"{what} not found"}, status, X_Error_Code=f"{what}NotFound")

    def may(self, write: bool) -> bool:
        """Say whether the request may do this, and answer it where it may not."""
        shown = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if not self.hub.token or shown == self.hub.token or not (shown or write):
            return True
        words = "Invalid credentials in Authorization header"
        self.answer({"error": words}, 401, **({"X_Error_Message": words} if shown else {}))
        return False

    def route(self) -> None:
        match self.command, *self.parts:
            case "PUT", "lfs", name:
                self.store(name)
            case "POST", "api", "validate-yaml":
                self.answer({"errors": [], "warnings": []}, 400 if self.hub.refuse_cards else 200)
            case "GET" | "HEAD", *parts if "resolve" in parts:
                *kind, owner, name = parts[: parts.index("resolve")]
                revision, *path = parts[parts.index("resolve") + 1 :]
                if self.sees(f"{owner}/{name}", kind[0] if kind else "models"):
                    self.resolve(f"{owner}/{name}", revision, "/".join(path))
            case method, "api", kind, owner, name, *rest if kind in KINDS:
                if self.sees(f"{owner}/{name}", kind):
                    self.of_a_repository(method, f"{owner}/{name}", rest)
            case _ if self.may(write=True):
                self.of_an_account()

    def of_an_account(self) -> None:
        match self.command, *self.parts:
            case "POST", *_, "info", "lfs", "objects", "batch":
                self.batch()
            case "GET", "api", "whoami-v2":
                self.answer({"name": "me", "type": "user", "orgs": []})
            case "POST", "api", "repos", "create":
                self.create(json.loads(self.content))
            case _:
                self.missing()

    def sees(self, repo: str, kind: str) -> bool:
        """Say whether there is such a repository for whoever asks, and answer where there is none: both look the same."""
        hub = self.hub
        if not self.may(write=False):
            return False
        hidden = hub.private.get(repo) and hub.token and "Authorization" not in self.headers
        if repo in hub.files and hub.kinds[repo] == kind and not hidden:
            return True
        self.missing("Repo", 401 if "Authorization" not in self.headers else 404)
        return False

    def of_a_repository(self, method: str, repo: str, rest: list[str]) -> None:
        hub = self.hub
        match method, *rest:
            case "GET", *_ if rest[:1] in ([], ["revision"]):
                self.info(repo, rest[1] if rest else "main")
            case "GET", "tree", revision, *under:
                self.tree(repo, revision, "/".join(under))
            case "GET", "refs":
                refs = {"main": hub.sha(repo)}, hub.tags[repo]
                branches, tags = ([{"name": n, "ref": n, "targetCommit": c} for n, c in one.items()] for one in refs)
                self.answer({"branches": branches, "tags": tags, "converts": []})
            case "POST", "paths-info", revision:
                files = (hub.at(repo, revision) or ("", {}))[1]
                wanted = [path for path in json.loads(self.content)["paths"] if path in files]
                self.answer([described(path, files[path]) for path in wanted])
            case _ if self.may(write=True):
                self.write(method, repo, rest)

    def write(self, method: str, repo: str, rest: list[str]) -> None:
        hub = self.hub
        match method, *rest:
            case "POST", "preupload", _:
                self.preupload(repo)
            case "POST", "commit", _:
                self.commit(repo)
            case "POST", "tag", revision:
                name = json.loads(self.content)["tag"]
                if name in hub.tags[repo]:
                    return self.answer({"error": f"Tag reference exists already: {name}"}, 409)
                hub.tags[repo][name] = hub.at(repo, revision)[0]
                self.answer({})
            case _, "variables":
                self.change_variables(method, repo)
            case "POST", "duplicate":
                self.duplicate(repo, json.loads(self.content))
            case _:
                self.missing()

    def create(self, asked: dict) -> None:
        hub, repo = self.hub, "/".join([asked.get("organization") or "me", asked["name"]])
        if repo in hub.files:
            self.answer({"error": "exists", "url": hub.address(repo)}, 409)
        elif asked.get("type") == "space" and "sdk" not in asked:
            self.answer({"error": "A Space needs an sdk."}, 400)
        else:
            hub.add(repo, f"{asked.get('type', 'model')}s", {}, asked.get("visibility") == "private", {})
            self.answer({"url": hub.address(repo), "name": repo, "id": repo})

    def duplicate(self, repo: str, asked: dict) -> None:
        """Copy files and variables, as the Hub does; secrets would stay."""
        hub, copy = self.hub, asked["repository"]
        if copy in hub.files:
            self.answer({"error": "exists", "url": hub.address(copy)}, 409)
            return
        variables = hub.variables[repo] | {one["key"]: one["value"] for one in asked.get("variables", [])}
        private = asked["visibility"] == "private" if "visibility" in asked else hub.private[repo]
        hub.add(copy, hub.kinds[repo], dict(hub.files[repo]), private, variables)
        self.answer({"url": hub.address(copy)})

    def preupload(self, repo: str) -> None:
        known = {path: oid(path, content) for path, content in self.hub.files[repo].items()}
        answers = []
        for path in (file["path"] for file in json.loads(self.content)["files"]):
            mode = "lfs" if path.endswith(LARGE) else "regular"
            answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": known.get(path)})
        self.answer({"files": answers})

    def batch(self) -> None:
        """Say where to put each large object; one that is there already needs no upload."""
        objects = json.loads(self.content)["objects"]
        for one in objects:
            if one["oid"] not in self.hub.large:
                one["actions"] = {"upload": {"href": f"{self.hub.url}/lfs/{one['oid']}"}}
        self.answer({"transfer": "basic", "objects": objects})

    def store(self, name: str) -> None:
        whole = hashlib.sha256(self.content).hexdigest() == name
        if whole:
            self.hub.large[name] = self.content
        self.answer({}, 200 if whole else 400)

    def commit(self, repo: str) -> None:
        """Change all files of a commit or none; its answer names the new commit."""
        hub = self.hub
        if hub.refuse_next_commit:
            hub.refuse_next_commit = False
            self.answer({"error": "Forbidden"}, 403)
            return
        files, changed = dict(hub.files[repo]), defaultdict(list)
        for line in self.content.splitlines():
            key, value = (json.loads(line)[name] for name in ("key", "value"))
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = hub.large[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
            if "path" in value:
                changed[key].append(value["path"])
        hub.history[hub.sha(repo)] = hub.files[repo]
        hub.files[repo] = files
        hub.commits[repo].append(changed)
        url = f"{hub.address(repo)}/commit/{hub.sha(repo)}"
        self.answer({"success": True, "commitOid": hub.sha(repo), "commitUrl": url})

    def info(self, repo: str, revision: str) -> None:
        if not (found := self.hub.at(repo, revision)):
            self.missing("Revision")
            return
        entries = [described(path, content) for path, content in sorted(found[1].items())]
        siblings = [{"rfilename": entry["path"]} for entry in entries]
        if "blobs" in self.query:
            for sibling, entry in zip(siblings, entries, strict=True):
                sibling |= {"size": entry["size"], "blobId": entry["oid"]}
                if lfs := entry.get("lfs"):
                    sibling["lfs"] = {"sha256": lfs["oid"], "size": lfs["size"], "pointerSize": lfs["pointerSize"]}
        facts = {"id": repo, "sha": found[0], "private": self.hub.private[repo], "siblings": siblings}
        self.answer({**facts, "tags": [], "downloads": 0, "likes": 0})

    def tree(self, repo: str, revision: str, under: str) -> None:
        if not (found := self.hub.at(repo, revision)):
            self.missing("Revision")
            return
        entries = listed(found[1], under, self.query.get("recursive", ["false"])[0].lower() in ("true", "1"))
        self.answer(entries) if entries or not under else self.missing()

    def change_variables(self, method: str, repo: str) -> None:
        variables = self.hub.variables[repo]
        if method == "POST":
            asked = json.loads(self.content)
            variables[asked["key"]] = asked["value"]
        self.answer({name: {"value": value} for name, value in variables.items()})

    def resolve(self, repo: str, revision: str, path: str) -> None:
        """Send a file, or the part of it that was asked for."""
        found = self.hub.at(repo, revision)
        if not found or path not in found[1]:
            self.missing("Entry" if found else "Revision")
            return
        commit, content = found[0], found[1][path]
        headers = {"ETag": f'"{oid(path, content)}"', "X_Repo_Commit": commit, "Accept_Ranges": "bytes"}
        asked = self.headers.get("Range")
        if asked:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            end = min(int(last or len(content) - 1), len(content) - 1)
            headers["Content_Range"] = f"bytes {first}-{end}/{len(content)}"
            self.answer(content[int(first) : end + 1], 206, **headers)
        else:
            self.answer(content, **headers)


@contextmanager
def hub_server(token: str = ""):
    """Yield a hub that answers at its `url` until the block ends."""
    hub = Hub(token)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
