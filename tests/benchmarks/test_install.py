from tests.benchmarks.install import USES, Installed, required


def package(directory, name, requires=(), size=0):
    """Writes what pip would of a package with one module, and its bytecode."""
    information = directory / f"{name}-1.0.dist-info"
    information.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", "Provides-Extra: more"]
    lines += [f"Requires-Dist: {line}" for line in requires]
    (information / "METADATA").write_text("\n".join(lines))
    (information / "RECORD").write_text(f"{name}.py,,\n{name}.pyc,,\nremoved.py,,\n")
    (directory / f"{name}.py").write_bytes(bytes(size))
    (directory / f"{name}.pyc").write_bytes(bytes(12345))


def test_what_only_one_requirement_needs_is_told_from_what_two_share(tmp_path):
    package(tmp_path, "first", ["shared", "own[more]", "other; python_version<'3'"])
    package(tmp_path, "second", ["shared"])
    package(tmp_path, "shared", size=1_000_000)
    package(tmp_path, "own", ["leaf; extra=='more'", "shared"], size=2_000_000)
    package(tmp_path, "leaf", size=500_000)
    installed = Installed(tmp_path)
    first, second = (("first", frozenset()), ("second", frozenset()))
    both = installed.closure([first, second])
    assert both == {"first", "second", "shared", "own", "leaf"}
    alone = both - installed.closure([second])
    assert alone == {"first", "own", "leaf"}
    assert installed.total(alone) == 2.5
    assert installed.closure([("own", frozenset())]) == {"own", "shared"}


def test_the_use_of_every_requirement_is_told():
    assert set(USES) == set(required())
