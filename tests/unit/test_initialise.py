"""``mlc-ci init`` on real git repositories: what it writes works, what it cannot do it says."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from master import initialise as module
from master.errors import InitialiseFailed
from master.initialise import initialise
from master.initialise_github import GitHubAnswers, name_on_github
from master.settings import Settings, examine

SAMPLE = {
    "pyproject.toml": """
        [build-system]
        requires = ["scikit-build-core"]
        [project]
        name = "my-project"
        version = "1"
        [project.optional-dependencies]
        test = ["numpy", "pytest>=8"]
        [tool.scikit-build]
        wheel.install-dir = "my_project"
    """,
    "CMakeLists.txt": 'include("config.cmake")\noption(USE_VULKAN "" OFF)\n',
    "rust/Cargo.toml": "[package]\n",
    "version.py": "",
    ".gitmodules": "",
    "python/my_project/__init__.py": "",
    "tests/python/test_a.py": "import pytest\npytestmark = pytest.mark.unittest\n",
    "docker/Dockerfile": "FROM scratch\n",
    "ci/task/build_win.bat": "rem\n",
}


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def repository(folder: Path, files: dict[str, str], *, branch: str = "main", tags: tuple[str, ...] = ()) -> Path:
    folder.mkdir()
    git(folder, "init", "--quiet", f"--initial-branch={branch}")
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message=first")
    for tag in tags:
        git(folder, "tag", tag)
    return folder


def written(tmp_path: Path, files: dict[str, str], **more: object) -> Settings:
    """The settings for a repository of these files, which are without a problem, warnings included."""
    source = repository(tmp_path / "source", files, **more)  # type: ignore[arg-type]
    initialise(str(source), tmp_path / "out.toml")
    examined = examine(tmp_path / "out.toml", {})
    assert examined.problems == [], "\n".join(map(str, examined.problems))
    assert examined.settings is not None
    return examined.settings


def test_a_project_like_mlc_llm_gets_its_whole_pipeline(tmp_path: Path) -> None:
    settings = written(tmp_path, SAMPLE, branch="trunk", tags=("v1.0", "v1.1"))
    assert settings.project.name == "my-project"
    assert settings.project.repository == str(tmp_path / "source")
    assert (settings.project.default_branch, settings.project.tag_pattern) == ("trunk", "v*")
    assert settings.project.submodules
    assert {name: stage.needs for name, stage in settings.stages.items()} == {
        "test": (),
        "build-linux": ("test",),
        "release": ("build-linux",),
        "summary": ("test", "build-linux", "release"),
    }
    test, build = settings.stages["test"], settings.stages["build-linux"]
    assert test.prebuilt is not None
    assert test.prebuilt.packages == ("numpy", "pytest>=8")
    assert test.pytest is not None
    assert (test.pytest.paths, test.pytest.marker) == (("tests/python",), "unittest")
    assert build.wheel is not None
    assert (build.wheel.package, build.wheel.version_script) == ("my_project", "version.py")
    assert build.wheel.config_cmake == {"USE_VULKAN": "ON"}
    assert build.requires.tools == {"python", "compiler", "cmake", "cargo", "vulkan-sdk"}


def test_what_has_no_worker_yet_is_offered_as_comments_that_work(tmp_path: Path) -> None:
    written(tmp_path, SAMPLE)
    text = (tmp_path / "out.toml").read_text()
    offered = text[text.index("# [stages.docker]") :].replace("\n# ", "\n").removeprefix("# ")
    (tmp_path / "more.toml").write_text(text + offered)
    more = examine(tmp_path / "more.toml", {})
    assert more.errors == []
    assert more.settings is not None
    assert {"docker", "build-windows"} <= more.settings.stages.keys()


def test_a_pure_python_project_asks_for_python_alone(tmp_path: Path) -> None:
    files = {"pyproject.toml": '[project]\nname = "x"\ndependencies = ["attrs"]\n', "tests/test_a.py": ""}
    settings = written(tmp_path, files)
    assert {tool for worker in settings.workers.values() for tool in worker.provides} == {"python"}
    assert settings.stages["test"].prebuilt is not None
    assert settings.stages["test"].prebuilt.packages == ("attrs", "pytest")
    assert not settings.project.submodules


def test_a_repository_of_anything_else_gets_a_stage_of_commands(tmp_path: Path) -> None:
    settings = written(tmp_path, {"README": "hello"})
    assert settings.project.name == "source"
    assert {name: stage.needs for name, stage in settings.stages.items()} == {"build": (), "summary": ("build",)}


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"pyproject.toml": "not [ toml"},
        {"pyproject.toml": "project = 3\ntool = []"},
        {"pyproject.toml": '[project]\nname = "é \\" x"\noptional-dependencies.test = "pytest"', "tests/test_x.py": ""},
        {"pyproject.toml": '[tool.scikit-build]\nwheel.install-dir = "../../x\\n[evil]"'},
        {"CMakeLists.txt": "", "test/test_x.py": ""},
    ],
)
def test_odd_repositories_still_get_working_settings(tmp_path: Path, files: dict[str, str]) -> None:
    written(tmp_path, files)


def test_tags_without_a_v_are_seen(tmp_path: Path) -> None:
    assert written(tmp_path, {}, tags=("0.1", "0.2.0", "nightly")).project.tag_pattern == "[0-9]*"


def test_a_url_is_as_good_as_a_folder(tmp_path: Path) -> None:
    source = repository(tmp_path / "source", SAMPLE)
    report = initialise(source.as_uri(), tmp_path / "out.toml")
    assert report.facts.repository == source.as_uri()
    assert report.facts.distribution == "my-project"


def test_a_bare_repository_whose_head_points_nowhere_has_a_default_branch(tmp_path: Path) -> None:
    source = repository(tmp_path / "source", {}, branch="main")
    git(source, "symbolic-ref", "HEAD", "refs/heads/gone")
    assert initialise(str(source), tmp_path / "out.toml").facts.default_branch == "main"


def test_the_report_names_tools_that_are_missing_and_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module.TOOLS, "cargo", (("no-such-program",), "cargo"))
    source = repository(tmp_path / "source", SAMPLE)
    report = initialise(str(source), tmp_path / "out.toml")
    cargo = next(check for check in report.checks if check.name == "cargo")
    assert not report.ok
    assert "apt-get install cargo" in str(cargo)
    assert "apt-get install cargo" in str(report)


# --- what it refuses --------------------------------------------------------------------------------------------------


def test_it_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "out.toml").write_text("mine")
    with pytest.raises(InitialiseFailed, match="there already"):
        initialise(str(tmp_path), tmp_path / "out.toml")
    assert (tmp_path / "out.toml").read_text() == "mine"


def test_it_says_that_the_outputs_folder_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InitialiseFailed, match="no folder"):
        initialise(str(tmp_path), tmp_path / "none" / "out.toml")


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("", "no repository"),
        ("--upload-pack=touch x", "no repository"),
        ("no/such/folder", "no folder"),
        ("https://ci:hunter2@localhost/x.git", "password"),
        ("https://localhost:1/x.git", "cannot be read"),
        ("file:///no/such/place", "cannot be read"),
    ],
)
def test_it_says_why_a_repository_cannot_be_read(tmp_path: Path, address: str, reason: str) -> None:
    with pytest.raises(InitialiseFailed, match=reason) as caught:
        initialise(address, tmp_path / "out.toml")
    assert "hunter2" not in str(caught.value)
    assert not (tmp_path / "out.toml").exists()


def test_a_folder_that_is_no_repository_is_told(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with pytest.raises(InitialiseFailed, match="name the repository itself"):
        initialise(str(tmp_path / "plain"), tmp_path / "out.toml")


def test_an_empty_repository_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    git(tmp_path / "empty", "init", "--quiet")
    with pytest.raises(InitialiseFailed, match="push a first commit"):
        initialise(str(tmp_path / "empty"), tmp_path / "out.toml")


# -- on GitHub


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://github.com/mlc-ai/mlc-llm.git", "mlc-ai/mlc-llm"),
        ("https://github.com/mlc-ai/mlc-llm/", "mlc-ai/mlc-llm"),
        ("git@github.com:acme/engine.core.git", "acme/engine.core"),
        ("ssh://git@GitHub.com:22/acme/engine", "acme/engine"),
        ("https://github.com.example.org/acme/engine", ""),
        ("https://gitlab.com/acme/engine", ""),
        ("https://github.com/acme", ""),
        ("https://github.com/acme/engine/tree/main", ""),
        ("/srv/github.com/acme/engine", ""),
    ],
)
def test_a_repository_on_github_is_known_by_its_address(address: str, name: str) -> None:
    assert name_on_github(address, "https://github.com") == name


def test_a_server_of_ones_own_is_known_when_it_is_named() -> None:
    assert name_on_github("https://git.example.org/acme/engine", "https://git.example.org/") == "acme/engine"
    assert name_on_github("https://github.com/acme/engine", "https://git.example.org/") == ""


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An address on GitHub behind which git finds a repository of this machine."""
    source = repository(tmp_path / "source", SAMPLE)
    address = "https://github.com/acme/engine.git"
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{source}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", address)
    return address


@pytest.mark.parametrize(
    ("answers", "access", "webhook"), [(GitHubAnswers(), "none", False), (GitHubAnswers(app_id=4711), "app", True)]
)
def test_a_repository_on_github_gets_its_table(
    tmp_path: Path, address: str, answers: GitHubAnswers, access: str, webhook: bool
) -> None:
    report = initialise(address, tmp_path / "out.toml", github=answers)
    examined = examine(tmp_path / "out.toml", {})
    assert examined.problems == [], "\n".join(map(str, examined.problems))
    assert examined.settings is not None
    github = examined.settings.github
    assert github is not None
    assert (github.repository, github.access, github.webhook) == ("acme/engine", access, webhook)
    (mirror,) = [check for check in report.checks if check.name == "mirror"]
    assert (
        Path(mirror.message.partition(": copy")[0])
        .read_text(encoding="utf-8")
        .startswith("# GitHub Actions only mirrors")
    )


def test_a_repository_elsewhere_gets_none(tmp_path: Path) -> None:
    assert written(tmp_path, SAMPLE).github is None


def test_secrets_that_are_there_are_tried_at_once(tmp_path: Path, address: str) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "github-webhook-secret").write_text("short")
    (secrets / "github-webhook-secret").chmod(0o600)
    (secrets / "github-app-key").write_text("no key")
    (secrets / "github-app-key").chmod(0o600)
    report = initialise(address, tmp_path / "out.toml", github=GitHubAnswers(app_id=4711, secrets=secrets))
    assert not report.ok
    told = [check.name for check in report.checks if check.ok is False]
    assert {"App key", "webhook secret", "webhook address"} <= set(told)
    assert "no key" not in str(report)
