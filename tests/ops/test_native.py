import os
import shutil
import subprocess
import sys

import pytest

from resjax.ops import native


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """Nothing is built yet, in this process or on disk."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    forget()
    yield tmp_path
    monkeypatch.undo()
    forget()
    assert native.available()


def forget():
    native._load.cache_clear()


@pytest.fixture
def compiler(fresh, monkeypatch):
    """That of the system; in the place of the kernels are sources that it compiles in no time."""
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(native, "SOURCES", fresh / "small")
    native.SOURCES.mkdir()
    for name in ("first", "second"):
        (native.SOURCES / f"{name}.cc").write_text(f'extern "C" int {name}() {{ return 1; }}\n')
    return (shutil.which("g++") or shutil.which("c++"),)


def test_without_a_compiler_there_is_a_warning_with_the_remedy(fresh, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.warns(
        UserWarning,
        match=r"no C\+\+ compiler.*pip install -e '\.\[compiler\]' in .*, or",
    ):
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


def test_a_compiler_that_never_ends_is_reported_with_its_words(fresh, monkeypatch):
    compiler = fresh / "stuck"
    compiler.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && exit\necho "error: no licence" >&2; exec sleep 60\n'
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setattr(native, "SECONDS_TO_COMPILE", 0.3)
    with pytest.warns(UserWarning, match="stuck cannot build the kernels.*error: no licence"):
        assert not native.available()


def test_a_place_that_takes_no_library_is_told_with_its_own_remedy(fresh, monkeypatch):
    (fresh / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(fresh / "file"))
    where = rf"kept in {fresh}/file/resjax \(Not a directory\); name one.*XDG_CACHE_HOME"
    with pytest.warns(UserWarning, match=where):
        assert not native.available()


def test_a_damaged_library_is_built_again(compiler):
    path = native._build(compiler)
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    library = native._opened(compiler)
    assert library.first() == library.second() == 1
    assert len(path.read_bytes()) == len(whole)


def test_a_damaged_library_is_built_again_where_mounts_are_not_told(monkeypatch, tmp_path):
    built = []

    def build(compiler):
        (tmp_path / "kernels.so").write_bytes(b"damaged")
        built.append(compiler)
        return tmp_path / "kernels.so"

    monkeypatch.delattr(os, "ST_NOEXEC")
    monkeypatch.setattr(native, "_build", build)
    with pytest.raises(OSError, match=r"kernels\.so"):
        native._opened(("c++",))
    assert built == [("c++",)] * 2


def test_what_systems_leave_among_the_sources_is_none_of_them(fresh, monkeypatch):
    compiler = (shutil.which("g++") or shutil.which("c++"),)
    library, _ = native._library(compiler)
    copied = shutil.copytree(native.SOURCES, fresh / "kernels")
    for name in (".DS_Store", "._conv.cc", ".nfs0001", ".conv.cc.swp", "Thumbs.db"):
        (copied / name).write_bytes(b"\xff\x00")
    monkeypatch.setattr(native, "SOURCES", copied)
    assert native._library(compiler)[0] == library
    compiled = fresh / "compiler"
    compiled.write_text(
        '#!/bin/sh\ncat >> "$0.told"\nfor result; do :; done\ntouch "$result"\n'  # the last word
    )
    compiled.chmod(0o755)
    native._compile([str(compiled)], fresh / "kernels.so")
    told = sorted((fresh / "compiler.told").read_text().splitlines())
    names = {"conv", *(path.stem for path in sorted(copied.glob("[a-z]*.cc")))}
    assert told == sorted(f'#include "{copied / name}.cc"' for name in names)


@pytest.mark.parametrize("other", ["CPU", "jaxlib", "compiler", "sources", "flags"])
def test_another_machine_compiler_or_source_has_another_library(fresh, monkeypatch, other):
    compiler = fresh / "compiler"
    compiler.write_text("#!/bin/sh\necho 1\n")
    compiler.chmod(0o755)
    monkeypatch.setattr(native, "SOURCES", shutil.copytree(native.SOURCES, fresh / "kernels"))
    library, _ = native._library((str(compiler),))
    assert native._library((str(compiler),))[0] == library
    if other == "CPU":
        monkeypatch.setattr(native, "cpu_kind", lambda: "x86_64-0")
    elif other == "jaxlib":
        monkeypatch.setattr(native, "version", lambda _: "0.0.0")
    elif other == "compiler":
        compiler.write_text("#!/bin/sh\necho 2\n")
    elif other == "sources":
        with next((fresh / "kernels").glob("*.cc")).open("a") as source:
            source.write("\n")
    else:
        monkeypatch.setattr(native, "FLAGS", (*native.FLAGS, "-DOTHER"))
    assert native._library((str(compiler),))[0] != library


def test_the_library_is_built_once_and_another_flag_is_another_library(fresh, compiler):
    first = native._build(compiler)
    built = first.stat().st_mtime_ns
    assert native._build(compiler) == first
    assert first.stat().st_mtime_ns == built
    assert native._build((*compiler, "-DOTHER")) != first
    assert len(list(fresh.rglob("*.so"))) == 2


AGAINST_XLA = """
import sys
import jax, jax.numpy as jnp, numpy as np
from resjax.ops import native
from resjax.ops.conv import conv
from resjax.ops.norm import batch_norm
from tests.rounding import assert_equal_to_rounding, bound

assert native.available()
draw = np.random.default_rng(0).normal
for dtype in sys.argv[1:]:
    with jax.enable_x64(dtype == "float64"):
        x, kernel = (
            jnp.asarray(draw(size=size), dtype) for size in ((5, 9, 8, 12), (3, 3, 12, 43))
        )
        for stride in (1, 2):
            def products(x, kernel, cotangent, name="xla"):
                function = lambda x, w: conv(x, w, stride, implementation=name)
                y, pullback = jax.vjp(function, x, kernel)
                return y, *pullback(cotangent)

            operands = x, kernel, conv(x, kernel, stride)
            assert_equal_to_rounding(products(*operands, "auto"), products, *operands)
        _, _, var = batch_norm(x, jnp.ones(12, dtype), jnp.zeros(12, dtype), 1e-5)
        exact = np.var(np.float64(x), (0, 1, 2))
        assert (abs(np.float64(var[0]) - exact) < bound(5 * 9 * 8, exact, dtype)).all()
"""


@pytest.mark.slow
@pytest.mark.parametrize("without", ["-mno-avx512f", "-mno-avx"])
def test_the_kernels_are_right_on_cpus_with_shorter_vectors(without, tmp_path):
    if os.uname().machine != "x86_64":
        pytest.skip("flags of x86")
    compiler = f"{shutil.which('g++') or shutil.which('c++')} {without}"
    environment = {**os.environ, "CXX": compiler, "XDG_CACHE_HOME": str(tmp_path)}
    subprocess.run(
        [sys.executable, "-W", "error", "-c", AGAINST_XLA], env=environment, check=True, timeout=300
    )


@pytest.mark.slow
def test_where_the_system_has_no_compiler_that_of_a_package_builds_the_kernels(tmp_path):
    pytest.importorskip(native.OF_A_PACKAGE)
    environment = {**os.environ, "PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    environment.pop("CXX", None)
    subprocess.run(
        [sys.executable, "-W", "error", "-c", AGAINST_XLA, "float32"],
        env=environment,
        check=True,
        timeout=1800,
    )
