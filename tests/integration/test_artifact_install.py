"""Wheels out of the package indexes, by pip and by uv, from a real artifact process."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from artifact_process import ArtifactProcess

from master.artifacts.tokens import PASSWORD
from master.database import releases
from master.database.tables import artifacts, runs, stage_attempts

pytestmark = pytest.mark.slow


def wheel(folder: Path, version: str, *, python: str = ">=3.8", name: str = "mlc_sample") -> Path:
    """A wheel that installs."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": f'__version__ = "{version}"\n',
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Python: {python}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(text.encode())}\n")
    file = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
        archive.writestr(f"{info}/RECORD", "".join([*lines, f"{info}/RECORD,,\n"]))
    return file


class Builds:
    """Builds that leave a wheel each, released or not."""

    def __init__(self, process: ArtifactProcess, folder: Path) -> None:
        self.process, self.folder = process, folder
        self.count = 0

    def build(self, version: str, *, release: bool, **about: str) -> Path:
        """What is left, in the store."""
        self.count += 1
        made = self.process
        made.begin(self.count, run_id=self.count)
        file = wheel(self.folder, version, **about)
        code, said = made.upload(self.count, file, token=made.token(self.count, self.count))
        assert code == 0, said
        made.accept(self.count, run_id=self.count)
        made.finish(self.count)
        kind = {"kind": "tag", "acts_as": "tag"} if release else {"kind": "push"}
        path = f"{self.count}/build/default/1/{self.count}/{file.name}"
        with made.engine.begin() as connection:
            connection.execute(stage_attempts.update().values(ended_at=float(self.count)))
            connection.execute(runs.update().where(runs.c.id == self.count).values(**kind))
            if release:
                releases.record(connection, f"v{version}", self.count, [path], float(self.count))
        return made.root / path


@pytest.fixture
def process(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ArtifactProcess]:
    s3 = request.getfixturevalue("s3") if getattr(request, "param", "folder") == "bucket" else None
    made = ArtifactProcess(tmp_path / "master", s3=s3)
    try:
        made.start()
        yield made
    finally:
        made.end()


@pytest.fixture
def builds(process: ArtifactProcess, tmp_path: Path) -> Builds:
    return Builds(process, tmp_path)


Install = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(params=["pip", "uv"])
def install(request: pytest.FixtureRequest, tmp_path: Path) -> Install:
    """Installs from an index and from nowhere else; which version is there then is asked with :func:`installed`."""
    if request.param == "pip":
        tool = [sys.executable, "-m", "pip", "--isolated", "--no-cache-dir"]
    else:
        tool = [str(Path(sys.executable).with_name("uv")), "--no-cache", "--no-config"]

    def run(index: str, *wanted: str) -> subprocess.CompletedProcess[str]:
        target = tmp_path / "installed"
        shutil.rmtree(target, ignore_errors=True)
        python = [] if request.param == "pip" else ["--python", sys.executable]
        command = [*tool, *(["pip"] if request.param == "uv" else []), "install", *python, "--target", str(target)]
        command += ["--index-url", index, *wanted]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


def installed(folder: Path) -> str:
    found = re.search(r'"(.+)"', (folder / "installed/mlc_sample/__init__.py").read_text())
    assert found
    return found[1]


@pytest.mark.parametrize("process", ["folder", "bucket"], indirect=True)
def test_the_newest_release_is_installed_and_no_nightly(
    process: ArtifactProcess, builds: Builds, install: Install, tmp_path: Path
) -> None:
    builds.build("1.0", release=True)
    builds.build("1.1", release=True)
    builds.build("1.2.dev3", release=False)
    done = install(f"{process.url}/simple/", "mlc-sample")
    assert done.returncode == 0, done.stderr
    assert installed(tmp_path) == "1.1"
    done = install(f"{process.url}/nightly/simple/", "--pre", "mlc_sample")
    assert done.returncode == 0, done.stderr
    assert installed(tmp_path) == "1.2.dev3"


def test_a_file_that_was_changed_in_the_store_is_refused(
    process: ArtifactProcess, builds: Builds, install: Install, tmp_path: Path
) -> None:
    file = builds.build("1.0", release=True)
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert install(f"{process.url}/simple/", "mlc-sample").returncode != 0
    (tmp_path / "other").mkdir()
    file.write_bytes(wheel(tmp_path / "other", "1.0", python=">=3.9").read_bytes())  # whole, and not what was built
    done = install(f"{process.url}/simple/", "mlc-sample")
    assert done.returncode != 0
    assert "hash" in done.stderr.lower(), done.stderr
    file.write_bytes(whole)
    assert install(f"{process.url}/simple/", "mlc-sample").returncode == 0


def test_a_yanked_release_is_passed_by_unless_it_is_asked_for(
    process: ArtifactProcess, builds: Builds, install: Install, tmp_path: Path
) -> None:
    builds.build("1.0", release=True)
    builds.build("1.1", release=True)
    with process.engine.begin() as connection:
        assert releases.yank(connection, "v1.1", "loads another TVM")
        assert not releases.yank(connection, "v9", "no such release")
    assert install(f"{process.url}/simple/", "mlc-sample").returncode == 0
    assert installed(tmp_path) == "1.0"
    done = install(f"{process.url}/simple/", "mlc-sample==1.1")
    assert (done.returncode, installed(tmp_path)) == (0, "1.1")
    assert "loads another TVM" in done.stderr + done.stdout
    with process.engine.begin() as connection:
        releases.yank(connection, "v1.1", None)
    assert install(f"{process.url}/simple/", "mlc-sample").returncode == 0
    assert installed(tmp_path) == "1.1"


@pytest.mark.parametrize("process", ["folder", "bucket"], indirect=True)
def test_a_release_for_another_python_is_passed_by(
    process: ArtifactProcess, builds: Builds, install: Install, tmp_path: Path
) -> None:
    builds.build("1.0", release=True)
    builds.build("1.1", release=True, python=">=4")
    assert install(f"{process.url}/simple/", "mlc-sample").returncode == 0
    assert installed(tmp_path) == "1.0"


def test_what_no_release_has_cannot_be_installed(process: ArtifactProcess, builds: Builds, install: Install) -> None:
    builds.build("1.0", release=False)
    assert install(f"{process.url}/simple/", "mlc-sample").returncode != 0


@pytest.mark.parametrize("store", ["folder", "bucket"])
def test_a_private_index_takes_the_password(
    tmp_path: Path, install: Install, store: str, request: pytest.FixtureRequest
) -> None:
    s3 = request.getfixturevalue("s3") if store == "bucket" else None  # which is sent no password
    made = ArtifactProcess(tmp_path / "private", s3=s3, public=False)
    try:
        made.start()
        Builds(made, tmp_path).build("1.0", release=True)
        password = (made.folder / "secrets" / PASSWORD).read_text().strip()
        assert install(f"{made.url}/simple/", "mlc-sample").returncode != 0
        done = install(f"{made.url.replace('://', f'://reader:{password}@')}/simple/", "mlc-sample")
        assert (done.returncode, installed(tmp_path)) == (0, "1.0"), done.stderr
    finally:
        made.end()


def test_addresses_as_pep_503_has_them(process: ArtifactProcess, builds: Builds) -> None:
    builds.build("1.0", release=True)
    with process.client() as client:
        for path, there in (
            ("/simple", "simple/"),
            ("/simple/mlc-sample", "mlc-sample/"),
            ("/simple/MLC.Sample/", "../mlc-sample/"),
            ("/nightly/simple", "simple/"),
        ):
            answer = client.get(path)
            assert (answer.status_code, answer.headers["location"]) == (301, there)
            assert client.get(path, follow_redirects=True).status_code == 200
        assert client.get("/simple/other/").status_code == 404
        assert client.get("/simple/", headers={"Accept": "application/xml"}).status_code == 406
        assert 'href="mlc-sample/"' in client.get("/simple/").text


def test_an_expired_nightly_is_not_listed_and_its_file_is_gone(process: ArtifactProcess, builds: Builds) -> None:
    builds.build("1.0.dev1", release=False)
    with process.client() as client:
        page = client.get("/nightly/simple/mlc-sample/").text
        where = re.search(r'href="\.\./\.\./\.\.(/artifacts/[^"#]+)', page)
        assert where
        assert client.get(where[1]).status_code == 200
        with process.engine.begin() as connection:
            connection.execute(artifacts.update().values(removed_at=5.0))
            assert connection.execute(sa.select(artifacts.c.removed_at)).scalar_one() == 5.0
        assert client.get("/nightly/simple/mlc-sample/").status_code == 404
        assert client.get(where[1]).status_code == 410


def _truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-40])


def _without_metadata(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.py", "")


def _encrypted(file: Path) -> None:
    whole = bytearray(file.read_bytes())
    for at in [match.start() for match in re.finditer(rb"PK\x01\x02", whole)]:
        whole[at + 8] |= 1
    file.write_bytes(whole)


def _of_an_unknown_method(file: Path) -> None:
    whole = bytearray(file.read_bytes())
    for at in [match.start() for match in re.finditer(rb"PK\x01\x02", whole)]:
        whole[at + 10] = 97
    file.write_bytes(whole)


def _wrongly_compressed(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        at = next(one.header_offset for one in archive.infolist() if one.filename.endswith("METADATA"))
    whole = bytearray(file.read_bytes())
    body = at + 30 + whole[at + 26] + whole[at + 28]
    whole[body] = 0xFF
    file.write_bytes(whole)


@pytest.mark.parametrize(
    "spoil", [_truncated, _without_metadata, _encrypted, _of_an_unknown_method, _wrongly_compressed]
)
def test_a_wheel_that_cannot_be_read_keeps_no_other_from_being_listed(
    process: ArtifactProcess, builds: Builds, spoil: Callable[[Path], None]
) -> None:
    builds.build("1.0", release=True)
    odd = builds.build("1.1", release=True)
    whole = odd.read_bytes()
    spoil(odd)
    accept = {"Accept": "application/vnd.pypi.simple.v1+json"}
    with process.client() as client:

        def listed() -> list[str | None]:
            files = client.get("/simple/mlc-sample/", headers=accept).raise_for_status().json()["files"]
            return [file.get("requires-python") for file in files]

        assert listed() == [">=3.8", None]
        odd.write_bytes(whole)  # as a store that was away for a moment
        assert listed() == [">=3.8", ">=3.8"]
