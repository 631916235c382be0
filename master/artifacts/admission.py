"""Whether uploads may come at all: their names, the build's budget, the store's room; said before a byte is read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

from anyio import to_thread

from master.artifacts.doorman import Database
from master.artifacts.names import UnsafeName, artifact_name, folded
from master.artifacts.refusal import Refused, over_budget
from master.artifacts.store import Store
from master.artifacts.tokens import Grant
from master.database import uploads
from master.database.records import Artifact
from workers.sizes import size_text

MOST_FILES = 1000  #: of one build

Key = tuple[int, str]


class Admission:
    """Of one artifact process.

    Args:
        left: how many bytes each connection that is open now will still bring.
        quota: bytes of all uploads together.
    """

    def __init__(
        self, store: Store, database: Database, left: Callable[[], Iterable[tuple[Key, int]]], *, quota: int | None
    ) -> None:
        self.store = store
        self.database = database
        self.left = left
        self.quota = quota
        self._declared: dict[Key, int] = {}  # how large admitted uploads will be, whether they were begun or not
        self._one_by_one = asyncio.Lock()  # what one has been promised counts for the next

    async def admit(self, grant: Grant, files: Mapping[str, int]) -> dict[str, Artifact]:
        """Those of the files that are uploads already. Raises :class:`Refused`."""
        async with self._one_by_one:
            return await self._admit(grant, files)

    async def _admit(self, grant: Grant, files: Mapping[str, int]) -> dict[str, Artifact]:
        rows: list[Artifact] = await self.database.do(uploads.of_build, grant.build_id)
        finished = _matched(rows, files)
        coming = {name: size for name, size in files.items() if name not in finished}
        begun = await to_thread.run_sync(self.store.begun, grant.build_id)
        self._within_budget(grant, rows, coming, begun)
        room = await to_thread.run_sync(self.store.room)
        kept = await self.database.do(uploads.bytes_kept) if self.quota is not None else 0
        own = {(grant.build_id, name) for name in coming}
        missing = sum(size - min(size, begun.get(name, 0)) for name, size in coming.items())
        sending = {key: left for key, left in self.left() if key not in own}
        waiting = sum(size for key, size in self._declared.items() if key not in own and key not in sending)
        _fits(missing, room - sum(sending.values()) - waiting)
        if self.quota is not None:
            # what others have begun is promised to them
            promised = sum(size for key, size in self._declared.items() if key not in own)
            _fits(sum(coming.values()), self.quota - kept - promised)
        self._declared.update({(grant.build_id, name): size for name, size in coming.items()})
        return finished

    async def room(self) -> int:
        """Bytes that may still be stored. May be negative."""
        room = await to_thread.run_sync(self.store.room)
        if self.quota is None:
            return room
        kept: int = await self.database.do(uploads.bytes_kept)
        return min(room, self.quota - kept)

    def forget(self, key: Key) -> None:
        """An upload that is no longer under way."""
        self._declared.pop(key, None)

    def under_way(self) -> set[Key]:
        """Uploads that were begun."""
        return set(self._declared)

    def _within_budget(
        self, grant: Grant, rows: Iterable[Artifact], coming: Mapping[str, int], begun: Mapping[str, int]
    ) -> None:
        declared = {name: size for (build_id, name), size in self._declared.items() if build_id == grant.build_id}
        others = {name: max(begun.get(name, 0), declared.get(name, 0)) for name in {*begun, *declared} - {*coming}}
        sizes = {**others, **{row.name: row.size for row in rows}, **coming}
        if sum(sizes.values()) > grant.budget:
            raise Refused(413, over_budget(grant.budget, sizes))
        if len(sizes) > MOST_FILES:
            raise Refused(413, f"a build may upload {MOST_FILES} files, and these would be {len(sizes)}")
        for name, size in coming.items():
            if size > self.store.largest:
                most = size_text(self.store.largest)
                raise Refused(413, f"{name} has {size_text(size)}, and the store takes files of up to {most}")


def _fits(missing: int, room: int) -> None:
    if missing > max(0, room):
        said = f"{size_text(missing)} are to come, {size_text(max(0, room))} are free"
        raise Refused(507, f"the artifact store is full: {said}")


def _matched(rows: Iterable[Artifact], files: Mapping[str, int]) -> dict[str, Artifact]:
    """Those of the files that were uploaded before. Raises :class:`Refused` for a name that is none, or is taken."""
    known = {folded(row.name): row for row in rows}
    taken = {key: row.name for key, row in known.items()}
    for name in files:
        try:
            artifact_name(name)
        except UnsafeName as error:
            raise Refused(400, str(error)) from None
        if (other := taken.setdefault(folded(name), name)) != name:
            raise Refused(409, f"{name} would be taken for {other}, which this build uploads too")
    finished = {name: known[folded(name)] for name in files if folded(name) in known}
    for name, row in finished.items():
        if row.size != files[name]:
            raise Refused(409, f"{name} was uploaded with {row.size} bytes, and now it would have {files[name]}")
    return finished
