"""A Hugging Face Hub in memory: huggingface_hub's own client talks to it, no network is used."""

import base64
import hashlib
import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import huggingface_hub.errors
import pytest
from huggingface_hub.utils import _http

httpx = importlib.import_module(huggingface_hub.errors.HTTPError.__module__.partition(".")[0])


class FakeHub:
    """Repositories of files by revision, and a record of the requests.

    Attributes:
        repos: Files by revision by repository.
        private: The repositories that are private.
        asked: Method and path of every request, in order.
        tokens: The authorization headers that came.
        commits: The header of each commit.
        fail: By a part of a path: what is answered instead, a status with headers, or raised.
    """

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, dict[str, bytes]]] = {}
        self.private: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        self.tokens: set[str | None] = set()
        self.commits: list[dict[str, Any]] = []
        self.fail: dict[str, tuple[int, dict[str, str]] | Exception] = {}

    def put(self, repo: str, files: dict[str, bytes], revision: str = "main") -> None:
        self.repos.setdefault(repo, {"main": {}}).setdefault(revision, {}).update(files)

    def commit_of(self, repo: str, revision: str) -> str:
        """A hash of the files of a revision."""
        if len(revision) == 40:
            return revision
        state = sorted(
            (name, hashlib.sha256(data).hexdigest())
            for name, data in self.repos[repo][revision].items()
        )
        return hashlib.sha1(json.dumps([repo, state]).encode()).hexdigest()

    def files_at(self, repo: str, revision: str) -> dict[str, bytes] | None:
        for name, files in self.repos[repo].items():
            if revision in (name, self.commit_of(repo, name)):
                return files
        return None

    def files_asked_for(self) -> set[str]:
        """Names of the files that were requested, by HEAD or GET."""
        return {
            path.partition("/resolve/")[2].partition("/")[2]
            for _, path in self.asked
            if "/resolve/" in path
        }

    def __call__(self, request: Any) -> Any:
        path = request.url.raw_path.decode().partition("?")[0]
        if path == "/api/agent-harnesses":  # the client asks once, for its user agent
            return httpx.Response(404, json={})
        if path == "/":  # whether the Hub can be reached at all
            return httpx.Response(200)
        self.asked.append((request.method, unquote(path)))
        self.tokens.add(request.headers.get("authorization"))
        for part, answer in self.fail.items():
            if part in path:
                if isinstance(answer, Exception):
                    raise answer
                return httpx.Response(answer[0], headers=answer[1], json={})
        parts = [unquote(part) for part in path.strip("/").split("/")]
        if parts[0] == "api":
            return self._api(parts[1:], request)
        repo, revision = "/".join(parts[:2]), parts[3]
        return self._file(repo, revision, "/".join(parts[4:]), request.method)

    def _file(self, repo: str, revision: str, name: str, method: str) -> Any:
        if repo not in self.repos:
            return _missing("RepoNotFound")
        files = self.files_at(repo, revision)
        if files is None:
            return _missing("RevisionNotFound")
        if name not in files:
            commit = self.commit_of(repo, revision)
            return _missing("EntryNotFound", {"X-Repo-Commit": commit})
        data = files[name]
        headers = {
            "X-Repo-Commit": self.commit_of(repo, revision),
            "ETag": f'"{hashlib.sha1(data).hexdigest()}"',
            "Content-Length": str(len(data)),
        }
        return httpx.Response(200, headers=headers, content=b"" if method == "HEAD" else data)

    def _api(self, parts: list[str], request: Any) -> Any:
        if parts == ["validate-yaml"]:
            return self._validate(json.loads(request.content)["content"])
        if parts == ["repos", "create"]:
            asked = json.loads(request.content)
            repo = f"{asked['organization']}/{asked['name']}"
            if repo in self.repos:
                return httpx.Response(409, json={"url": f"https://huggingface.co/{repo}"})
            self.put(repo, {".gitattributes": b""})
            if asked.get("private") or asked.get("visibility") == "private":
                self.private.add(repo)
            return httpx.Response(200, json={"url": f"https://huggingface.co/{repo}"})
        repo, rest = "/".join(parts[1:3]), parts[3:]
        if repo not in self.repos:
            return _missing("RepoNotFound")
        if not rest:
            answer = {"id": repo, "private": repo in self.private, "tags": [], "siblings": []}
            return httpx.Response(200, json=answer)
        action, revision = rest[0], "/".join(rest[1:])
        if action == "tree" and len(rest) > 2:  # a folder of a revision; none is kept here
            return _missing("EntryNotFound")
        if action == "branch":
            self.repos[repo][revision] = dict(self.repos[repo]["main"])
            return httpx.Response(200, json={})
        files = self.files_at(repo, revision)
        if files is None:
            return _missing("RevisionNotFound")
        if action == "tree":
            rows = [
                {"type": "file", "path": name, "size": len(data), "oid": "0" * 40}
                for name, data in files.items()
            ]
            return httpx.Response(200, json=rows)
        if action == "preupload":
            modes = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(request.content)["files"]
            ]
            return httpx.Response(200, json={"files": modes})
        assert action == "commit", parts
        return self._commit(repo, files, request)

    def _commit(self, repo: str, files: dict[str, bytes], request: Any) -> Any:
        header, *rest = [json.loads(line) for line in request.read().splitlines()]
        self.commits.append(header["value"])
        answer = {"commitOid": "c" * 40, "commitUrl": f"https://huggingface.co/{repo}/commit/ccc"}
        if "create_pr" in dict(request.url.params):
            answer["pullRequestUrl"] = f"https://huggingface.co/{repo}/discussions/1"
            files = self.repos[repo].setdefault("refs/pr/1", dict(files))
        for row in rest:
            assert row["key"] == "file"
            files[row["value"]["path"]] = base64.b64decode(row["value"]["content"])
        return httpx.Response(200, json=answer)

    @staticmethod
    def _validate(content: str) -> Any:
        if not content.startswith("---\n"):
            return httpx.Response(400, json={"errors": [{"message": "no metadata"}]})
        return httpx.Response(200, json={"errors": [], "warnings": []})


def _missing(code: str, headers: dict[str, str] | None = None) -> Any:
    return httpx.Response(404, headers={"X-Error-Code": code, **(headers or {})}, json={})


@contextmanager
def serving(patch: pytest.MonkeyPatch, cache: Path) -> Iterator[FakeHub]:
    """Replace the network by a fake Hub, and the cache by a folder."""
    constants = huggingface_hub.constants
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setattr(constants, "HF_HUB_CACHE", str(cache))
    patch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    patch.setattr("time.sleep", lambda _: None)  # between attempts
    fake = FakeHub()
    huggingface_hub.set_client_factory(
        lambda: httpx.Client(transport=httpx.MockTransport(fake), follow_redirects=True)
    )
    try:
        yield fake
    finally:
        huggingface_hub.set_client_factory(_http.default_client_factory)
