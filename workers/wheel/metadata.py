"""METADATA: valid as PyPI sees it, of the same name and version as the file, requiring what it must."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from workers.wheel.checks import Finding, shown
from workers.wheel.expectations import Expectations
from workers.wheel.identity import Identity

_LONGEST = 2 << 20  # bytes: parsing is not linear in them
_LONGEST_DESCRIPTION = 1 << 18  # characters that are rendered


def parse_metadata(file: str, data: bytes) -> Metadata | list[Finding]:
    if len(data) > _LONGEST:
        return [Finding(check="metadata", file=file, reason=f"it has {len(data)} bytes, more than {_LONGEST}")]
    try:
        return Metadata.from_email(data, validate=True)
    except ExceptionGroup as group:
        problems = [error for error in group.exceptions if not isinstance(error, ExceptionGroup)] or [group]
        return [Finding(check="metadata", file=file, reason=shown(problem)) for problem in problems[:5]]
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        return [
            Finding(check="metadata", file=file, reason=f"it cannot be parsed: {shown(error) or type(error).__name__}")
        ]


def agreement_findings(file: str, found: Metadata, identity: Identity) -> Iterator[Finding]:
    if canonicalize_name(found.name) != identity.name:
        reason = f"the name is {shown(found.name)}; the file name says {identity.name}"
        yield Finding(check="metadata-mismatch", file=file, reason=reason)
    if found.version != identity.version:
        reason = f"the version is {shown(found.version)}; the file name says {identity.version}"
        yield Finding(check="metadata-mismatch", file=file, reason=reason)


def requires_findings(file: str, found: Metadata, expected: Expectations) -> Iterator[Finding]:
    requires = found.requires_dist or []
    for text in expected.requires_dist:
        wanted = Requirement(text)
        same = [each for each in requires if canonicalize_name(each.name) == canonicalize_name(wanted.name)]
        exact = [each for each in same if each.specifier == wanted.specifier and each.marker == wanted.marker]
        if not (exact or (same and not wanted.specifier and not wanted.marker)):
            said = shown("; ".join(map(str, same))) if same else "nothing of that name"
            yield Finding(check="requires-dist", file=file, reason=f"it must require {text}; it requires {said}")


def can_render() -> bool:
    return find_spec("readme_renderer") is not None


def description_findings(file: str, found: Metadata) -> Iterator[Finding]:
    """As ``twine check`` does it: reStructuredText that cannot be rendered is refused by PyPI."""
    text = found.description or ""
    kind = (found.description_content_type or "text/x-rst").partition(";")[0].strip()
    if not text.strip() or kind != "text/x-rst" or not can_render():
        return
    if len(text) > _LONGEST_DESCRIPTION:
        yield Finding(check="description", file=file, reason=f"it has {len(text)} characters")
        return
    import io  # noqa: PLC0415 - only with the library that needs it
    import warnings  # noqa: PLC0415

    from readme_renderer import rst  # noqa: PLC0415 - optional

    said = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            rendered = rst.render(text, stream=said)
        except (ValueError, LookupError, TypeError, AttributeError, AssertionError, RecursionError) as error:
            rendered = None
            said.write(f"{type(error).__name__}: {error}")
    if rendered is None:
        words = next((line for line in said.getvalue().splitlines() if line.strip()), "no reason given")
        yield Finding(check="description", file=file, reason=f"it is no valid reStructuredText: {shown(words)}")
