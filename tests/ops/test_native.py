import shutil

import pytest

from resjax.ops import native


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """Nothing is built yet, in this process or on disk."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    native.available.cache_clear()
    yield tmp_path
    monkeypatch.undo()
    native.available.cache_clear()
    assert native.available()


def test_without_a_compiler_there_is_a_warning_with_the_remedy(fresh, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.warns(UserWarning, match=r"no C\+\+ compiler.*install g\+\+"):
        assert not native.available()
    assert not list(fresh.rglob("*.so"))


def test_a_compiler_that_fails_is_reported_with_its_words(fresh, monkeypatch):
    compiler = fresh / "broken"
    compiler.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && exit\necho "fatal error: no" >&2; exit 1\n'
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    with pytest.warns(UserWarning, match="broken cannot build the kernels.*fatal error: no"):
        assert not native.available()
    assert [path.name for path in fresh.rglob("*") if path.is_file()] == ["broken"]


@pytest.mark.slow
def test_the_library_is_built_once_and_another_flag_is_another_library(fresh, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    compiler = [shutil.which("g++") or shutil.which("c++")]
    first = native._build(compiler)
    built = first.stat().st_mtime_ns
    assert native._build(compiler) == first
    assert first.stat().st_mtime_ns == built
    assert native._build([*compiler, "-DOTHER"]) != first
    assert len(list(fresh.rglob("*.so"))) == 2
