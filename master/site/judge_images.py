"""Whether the registry has the images that the runs of ``ci/up --once --with-docker`` were to push: asked itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from master.settings import Settings
from master.settings_docker import ImageSettings
from master.site.registry import Registry
from steps.image_tags import image_tags

_PATIENCE_S = 30.0
_KINDS = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in ("oci.image.index.v1", "oci.image.manifest.v1", "docker.distribution.manifest.v2")
)


def problems(
    runs: Sequence[Mapping[str, Any]], image: ImageSettings, settings: Settings, registry: Registry
) -> list[str]:
    """Each tag that is missing or leads elsewhere, and each that should not be there."""
    client = httpx.Client(
        base_url=f"http://{registry.address}/v2/{image.repository}",
        auth=(registry.user, registry.password),
        timeout=_PATIENCE_S,
        trust_env=False,  # it is on this machine: no proxy
    )
    with client:
        found = []
        publishing = [run for run in runs if run["event"] != "pull_request"]
        wanted = Counter(tag for run in publishing for tag in _names(run, image, settings))
        for run in publishing:
            name = f"run {run['id']} ({run['event']})"
            digests = {}
            for tag in sorted(_names(run, image, settings)):
                digests[tag], said = _digest(client, tag)
                found += [f"{name}: {said}"] if said else []
            for suffix in image.suffixes.values():
                # two runs of one commit share its tag: it leads to what the later one pushed
                names = _names(run, image, settings, suffix)
                own = {tag: digests[tag] for tag in names if wanted[tag] == 1 and digests[tag]}
                if len(set(own.values())) > 1:
                    found.append(f"{name}: its image's tags lead to different images: {own}")
        listed = set(client.get("/tags/list").json().get("tags") or ())
        more = {tag for tag in listed - set(wanted) if not tag.startswith("buildcache")}
        return found + [f"the registry has tags that no run was to push: {', '.join(sorted(more))}"] * bool(more)


def _names(run: Mapping[str, Any], image: ImageSettings, settings: Settings, suffix: str | None = None) -> set[str]:
    tags = image_tags(
        ref=run["ref"],
        tag=run["ref"].removeprefix("refs/tags/") if run["event"] == "tag" else "",
        head=run["head"],
        default_branch=settings.project.default_branch,
        latest=image.latest,
        bare_version=image.bare_version,
    )
    suffixes = image.suffixes.values() if suffix is None else (suffix,)
    return {f"{tag}{end}" for tag in (*tags.fixed, *tags.moving) for end in suffixes}


def _digest(client: httpx.Client, tag: str) -> tuple[str, str]:
    """Where a tag leads, and what is wrong with it."""
    answer = client.get(f"/manifests/{tag}", headers={"Accept": _KINDS})
    if answer.status_code != 200:
        return "", f"the registry answers {answer.status_code} for the image's tag {tag}"
    digest = answer.headers["docker-content-digest"]
    if client.get(f"/manifests/{digest}", headers={"Accept": _KINDS}).content != answer.content:
        return digest, f"the image's tag {tag} is not what its digest {digest} is"
    return digest, ""
