import itertools

import pytest

from tests.buckets.servers import Simulated

_numbers = itertools.count()


@pytest.fixture(scope="session")
def s3():
    return Simulated("s3")


@pytest.fixture(scope="session")
def gs():
    return Simulated("gs")


def made_ready(simulated, monkeypatch):
    """A simulated bucket without faults, which this process finds."""
    simulated.faults.reset()
    monkeypatch.delenv("GOOGLE_SERVICE_ACCOUNT", raising=False)
    for name, value in simulated.environment.items():
        monkeypatch.setenv(name, value)
    return simulated


@pytest.fixture(params=["s3", "gs"])
def bucket(request, monkeypatch):
    """A simulated bucket of either kind; `fresh` is an address that no other test uses."""
    yield made_ready(request.getfixturevalue(request.param), monkeypatch)
    request.getfixturevalue(request.param).faults.reset()


@pytest.fixture
def one_bucket(s3, monkeypatch):
    """A simulated bucket of S3, for tests in which the kind does not matter."""
    yield made_ready(s3, monkeypatch)
    s3.faults.reset()


@pytest.fixture
def fresh():
    """A path that no other test uses."""
    return f"runs{next(_numbers)}"


@pytest.fixture
def copies(tmp_path, monkeypatch):
    """The directory in which a test has the copies of what it reads in buckets."""
    from resjax.buckets import places

    monkeypatch.setattr(places, "cache_directory", lambda: tmp_path / "cache")
    return tmp_path / "cache" / "copies"


def uploaded(directory, address):
    """The store at an address, with the files of a directory."""
    from resjax.buckets.store import Store
    from resjax.config.addresses import Address

    store = Store(Address.of(address))
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            store.put(path.relative_to(directory).as_posix(), path)
    return store


def contents(directory):
    """{name: bytes} of the files in a directory but for hidden ones."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }
