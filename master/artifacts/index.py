"""Wheels as a package index that pip and uv install from (PEP 503, 691, 592 and 700). Pure.

There are two of them: what was released, and what the default branch's newest builds left. The pages are made by
``simple-repository``; what is listed, and under which address, is decided here.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion
from simple_repository import content_negotiation, serializer
from simple_repository.content_negotiation import Format
from simple_repository.errors import UnsupportedSerialization
from simple_repository.model import File, Meta, ProjectDetail, ProjectList, ProjectListElement

_META = Meta(api_version="1.1")  # with sizes and times, PEP 700


class NotAcceptable(Exception):
    """The client takes none of the forms that a page can have."""


@dataclass(frozen=True, kw_only=True)
class IndexedWheel:
    """A wheel that an index lists.

    ``url`` is where it is fetched from, relative to the project's page or absolute; ``published_at`` in seconds since
    the epoch; ``yanked`` why it should no longer be chosen (PEP 592), or ``None``.
    """

    name: str
    url: str
    size: int
    sha256: str
    published_at: float
    requires_python: str = ""
    yanked: str | None = None

    @property
    def project(self) -> str | None:
        """The normalised name of its project; ``None`` when its file name is no wheel's."""
        try:
            return parse_wheel_filename(self.name)[0]
        except (InvalidWheelFilename, InvalidVersion):
            return None


def project_list(wheels: Iterable[IndexedWheel]) -> ProjectList:
    """The index's first page."""
    names = {wheel.project for wheel in wheels} - {None}
    return ProjectList(meta=_META, projects=frozenset(ProjectListElement(name=str(name)) for name in names))


def project_page(name: str, wheels: Iterable[IndexedWheel]) -> ProjectDetail | None:
    """One project's page; ``None`` when nothing of it is listed.

    Of wheels with one and the same file name the one published last counts: pip would refuse to choose.
    """
    wanted = canonicalize_name(name)
    newest = {w.name: w for w in sorted(wheels, key=lambda w: w.published_at) if w.project == wanted}
    if not newest:
        return None
    files = tuple(_file(wheel) for _, wheel in sorted(newest.items()))
    return ProjectDetail(meta=_META, name=wanted, files=files)


def render(page: ProjectList | ProjectDetail, accept: str) -> tuple[str, str]:
    """Content type and text of a page, in the form that the client's ``Accept`` header asks for.

    Raises:
        NotAcceptable: it asks for none that there is.
    """
    try:
        form = content_negotiation.select_response_format(accept)
    except (UnsupportedSerialization, ValueError):  # ValueError: a quality that is no number
        forms = ", ".join(form.value for form in Format)
        raise NotAcceptable(f"this index speaks {forms}, and not {accept[:200]!r}") from None
    made = serializer.SerializerJsonV1() if form is Format.JSON_V1 else serializer.SerializerHtmlV1()
    if isinstance(page, ProjectList):
        return form.value, made.serialize_project_list(page)
    if form is not Format.JSON_V1:
        page = replace(page, files=tuple(map(_escaped, page.files)))
    return form.value, made.serialize_project_page(page)


def _escaped(file: File) -> File:
    """For HTML: the library writes these two attributes as they are."""
    yanked = html.escape(file.yanked) if isinstance(file.yanked, str) else file.yanked
    return replace(file, url=html.escape(file.url), yanked=yanked)


def _file(wheel: IndexedWheel) -> File:
    return File(
        filename=wheel.name,
        url=wheel.url,
        hashes={"sha256": wheel.sha256},
        requires_python=wheel.requires_python or None,
        yanked=None if wheel.yanked is None else wheel.yanked or True,
        size=wheel.size,
        upload_time=datetime.fromtimestamp(wheel.published_at, UTC),
    )
