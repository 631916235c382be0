"""How the GitHub double says what it remembers: the shapes of GitHub's answers.

``github_double_answers.json`` holds GitHub's own examples of the long ones, from its OpenAPI description.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from github_double_state import State, Upload

_EXAMPLES = json.loads(Path(__file__).with_name("github_double_answers.json").read_text())
API = "https://api.github.com"


def example(state: State, kind: str) -> Any:
    """GitHub's example, about this repository."""
    return json.loads(json.dumps(_EXAMPLES[kind]).replace("OWNER/NAME", state.full_name))


def user(state: State, login: str) -> dict[str, Any]:
    shape = json.loads(json.dumps(_EXAMPLES["user"]).replace("octocat", quote(login)))
    kind = "Bot" if login.endswith("[bot]") else "Organization" if login == state.owner else "User"
    return {**shape, "login": login, "id": sum(login.encode()), "type": kind}


def public_user(state: State, login: str) -> dict[str, Any]:
    return {**_EXAMPLES["public_user"], **user(state, login)}


def repository(state: State) -> dict[str, Any]:
    owner = user(state, state.owner)
    names = {"name": state.name, "full_name": state.full_name, "default_branch": state.default_branch}
    return {**example(state, "repository"), **names, "owner": owner}


def app(state: State) -> dict[str, Any]:
    about = {"id": state.app_id, "slug": state.app_slug, "name": state.app_slug}
    about |= {"permissions": {**state.granted, **state.asked_for}, "events": state.events}
    return {**example(state, "app"), **about, "owner": user(state, state.owner)}


def installation(state: State) -> dict[str, Any]:
    about = {"id": state.installation_id, "app_id": state.app_id, "app_slug": state.app_slug}
    about |= {"permissions": state.granted, "account": user(state, state.owner), "repository_selection": "selected"}
    return {**example(state, "installation"), **about}


def status(state: State, kept: dict[str, Any]) -> dict[str, Any]:
    url = f"{API}/repos/{state.full_name}/statuses/{kept['sha']}"
    about = {key: value for key, value in kept.items() if key not in ("sha", "creator")}
    creator = user(state, kept["creator"])
    return {**about, "url": url, "node_id": "U1RBVFVT", "avatar_url": creator["avatar_url"], "creator": creator}


def combined(state: State, sha: str, kept: list[dict[str, Any]], shown: list[dict[str, Any]]) -> dict[str, Any]:
    """``kept``: the newest status of each context; ``shown``: the page of them."""
    states = {one["state"] for one in kept}
    bad, going = states & {"error", "failure"}, "pending" in states or not states
    url = f"{API}/repos/{state.full_name}/commits/{sha}"
    simple = []
    for one in shown:
        whole = status(state, one)
        simple.append({key: value for key, value in whole.items() if key != "creator"})
    return {
        "state": "failure" if bad else "pending" if going else "success",
        "sha": sha,
        "total_count": len(kept),
        "statuses": simple,
        "repository": repository(state),
        "commit_url": url,
        "url": f"{url}/status",
    }


def comment(state: State, kept: dict[str, Any]) -> dict[str, Any]:
    about = {key: value for key, value in kept.items() if key not in ("number", "login")}
    page = f"https://github.com/{state.full_name}/pull/{kept['number']}#issuecomment-{kept['id']}"
    return {
        **about,
        "node_id": "SUNfa3dETw",
        "url": f"{API}/repos/{state.full_name}/issues/comments/{kept['id']}",
        "html_url": page,
        "issue_url": f"{API}/repos/{state.full_name}/issues/{kept['number']}",
        "user": user(state, kept["login"]),
        "author_association": "NONE",
    }


def pull(state: State, kept: dict[str, Any]) -> dict[str, Any]:
    shape = json.dumps(example(state, "pull"))
    for place in ("pulls/", "pull/", "issues/"):
        shape = shape.replace(f"{place}0", f"{place}{kept['number']}")
    found = json.loads(shape.replace("statuses/" + "0" * 40, f"statuses/{kept['head']}"))
    author, ours = user(state, kept["author"]), repository(state)
    theirs = f"{kept['author']}/{state.name}" if kept["fork"] else state.full_name
    head = {**ours, "full_name": theirs, "fork": kept["fork"], "owner": author if kept["fork"] else ours["owner"]}
    owner = theirs.split("/")[0]
    return {
        **found,
        "number": kept["number"],
        "state": kept["state"],
        "draft": False,
        "title": kept["title"],
        "user": author,
        "author_association": kept["association"],
        "changed_files": len(kept["files"]),
        "updated_at": kept.get("updated_at") or found["updated_at"],
        "labels": [],
        "merged": False,
        "head": {"label": f"{owner}:{kept['branch']}", "ref": kept["branch"], "sha": kept["head"], "user": author}
        | {"repo": head},
        "base": {"label": f"{state.owner}:{kept['base']}", "ref": kept["base"], "sha": kept["base_sha"]}
        | {"user": ours["owner"], "repo": ours},
        "_links": {
            name: {"href": found["url"]}
            for name in ("self", "html", "issue", "comments", "review_comments", "review_comment", "commits")
        }
        | {"statuses": {"href": found["statuses_url"]}},
    }


def file(state: State, name: str, head: str) -> dict[str, Any]:
    at = f"https://github.com/{state.full_name}"
    counts = {"additions": 1, "deletions": 0, "changes": 1}
    return {
        "sha": head,
        "filename": name,
        "status": "modified",
        **counts,
        "blob_url": f"{at}/blob/{head}/{quote(name)}",
        "raw_url": f"{at}/raw/{head}/{quote(name)}",
        "contents_url": f"{API}/repos/{state.full_name}/contents/{quote(name)}?ref={head}",
    }


def git_commit(state: State, sha: str) -> dict[str, Any]:
    person = {"name": "A Developer", "email": "developer@example.com", "date": "2026-01-01T00:00:00Z"}
    unsigned = {"verified": False, "reason": "unsigned", "signature": None, "payload": None, "verified_at": None}
    return {
        "sha": sha,
        "node_id": "Q19rd0RP",
        "url": f"{API}/repos/{state.full_name}/git/commits/{sha}",
        "html_url": f"https://github.com/{state.full_name}/commit/{sha}",
        "author": person,
        "committer": person,
        "message": "a commit",
        "tree": {"sha": sha, "url": f"{API}/repos/{state.full_name}/git/trees/{sha}"},
        "parents": [],
        "verification": unsigned,
    }


def commit(state: State, sha: str) -> dict[str, Any]:
    plain = git_commit(state, sha)
    person, url = user(state, state.owner), f"{API}/repos/{state.full_name}/commits/{sha}"
    inner = {key: plain[key] for key in ("author", "committer", "message", "tree", "verification", "url")}
    about = {key: plain[key] for key in ("sha", "node_id", "html_url", "parents")}
    about |= {"commit": {**inner, "comment_count": 0}, "author": person, "committer": person}
    return {**about, "url": url, "comments_url": f"{url}/comments"}


def ref(state: State, name: str) -> dict[str, Any]:
    found = state.refs[name]
    folder = {"commit": "commits", "tag": "tags"}[found["type"]]
    url = f"{API}/repos/{state.full_name}/git"
    points = {**found, "url": f"{url}/{folder}/{found['sha']}"}
    return {"ref": f"refs/{name}", "node_id": "UkVG", "url": f"{url}/refs/{name}", "object": points}


def tag_object(state: State, sha: str) -> dict[str, Any]:
    found = state.tag_objects[sha]
    url = f"{API}/repos/{state.full_name}/git"
    points = {**found["object"], "url": f"{url}/{found['object']['type']}s/{found['object']['sha']}"}
    tagger = {"name": "A Developer", "email": "developer@example.com", "date": "2026-01-01T00:00:00Z"}
    about = {"node_id": "VGFn", "sha": sha, "url": f"{url}/tags/{sha}", "message": "a tag", "tagger": tagger}
    return {**about, "tag": found["tag"], "object": points}


def asset(state: State, release: dict[str, Any], kept: Upload) -> dict[str, Any]:
    place = f"https://github.com/{state.full_name}/releases/download/{quote(release['tag_name'])}/{quote(kept.name)}"
    digest = f"sha256:{kept.sha256}" if state.digests and kept.state == "uploaded" else None
    return {
        "url": f"{API}/repos/{state.full_name}/releases/assets/{kept.id}",
        "id": kept.id,
        "node_id": "UkE",
        "name": kept.name,
        "label": "",
        "uploader": user(state, release["login"]),
        "content_type": kept.content_type,
        "state": kept.state,
        "size": kept.size,
        "digest": digest,
        "download_count": 0,
        "created_at": kept.created_at,
        "updated_at": kept.created_at,
        "browser_download_url": place,
    }


def release(state: State, kept: dict[str, Any], uploads: str) -> dict[str, Any]:
    """``uploads``: the address of the host that takes uploads."""
    url = f"{API}/repos/{state.full_name}/releases/{kept['id']}"
    shown = f"untagged-{kept['id']:x}" if kept["draft"] else quote(kept["tag_name"])
    about = {key: kept[key] for key in ("id", "tag_name", "target_commitish", "name", "body", "draft", "prerelease")}
    about |= {key: kept[key] for key in ("created_at", "published_at")}
    return {
        **about,
        "url": url,
        "assets_url": f"{url}/assets",
        "upload_url": f"{uploads}/repos/{state.full_name}/releases/{kept['id']}/assets{{?name,label}}",
        "html_url": f"https://github.com/{state.full_name}/releases/tag/{shown}",
        "node_id": "UkU",
        "immutable": False,
        "tarball_url": f"{API}/repos/{state.full_name}/tarball/{quote(kept['tag_name'])}",
        "zipball_url": f"{API}/repos/{state.full_name}/zipball/{quote(kept['tag_name'])}",
        "author": user(state, kept["login"]),
        "assets": [asset(state, kept, one) for one in kept["assets"]],
    }


def rate_limit() -> dict[str, Any]:
    one = {"limit": 5000, "used": 1, "remaining": 4999, "reset": int(time.time()) + 3600}
    return {"resources": {"core": one, "search": {**one, "limit": 30}}, "rate": one}


def meta(state: State) -> dict[str, Any]:
    return {**example(state, "meta"), "verifiable_password_authentication": False}
