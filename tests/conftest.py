import gc
import os
import signal

import hypothesis
import pytest

from tests.buckets.fixtures import bucket, copies, fresh, gs, one_bucket, s3  # noqa: F401 - of all tests

# A timing decides no test; how long an example takes depends on what else the machine does.
hypothesis.settings.register_profile("resjax", deadline=None)
hypothesis.settings.load_profile("resjax")


# Programs are traced into many small objects that live for long.
gc.set_threshold(100_000, 50, 50)


def pytest_configure(config):
    # No bucket of the world is asked for anything.
    os.environ.update(GOOGLE_SERVICE_ACCOUNT=os.devnull, AWS_METADATA_ENDPOINT="http://127.0.0.1:1")
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup has it ignored by all that is started
    from resjax.process import set_up

    set_up()
    # Programs are compiled once for all tests, subprocesses and later sessions included.
    if config.pluginmanager.hasplugin("cacheprovider"):
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(config.cache.mkdir("compiled")))


LONGEST = (
    "sweeps/test_ray.py", "training/test_parallel.py", "test_notebooks.py", "test_docs.py",
    "durability/", "training/test_side_by_side.py", "training/test_hosts.py",
    "training/test_programs.py", "runs/test_loop.py", "sweeps/", "runs/", "training/",
    "models/",
)  # fmt: skip
"""Files and directories of tests, those that take longest first."""

APART = (
    "test_notebooks.py", "durability/test_kill.py", "durability/test_devices.py",
    "training/test_hosts.py", "training/test_side_by_side.py", "training/test_programs.py",
)  # fmt: skip
"""Files whose tests share nothing that is expensive."""


def pytest_collection_modifyitems(items):
    """Begins with the longest files, so that no worker is alone with one at the end."""

    def place(item):
        path = item.nodeid.removeprefix("tests/")
        return next((n for n, name in enumerate(LONGEST) if path.startswith(name)), len(LONGEST))

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """By file, as what its fixtures make is shared, or by test where nothing is."""
    from xdist.scheduler import LoadFileScheduling

    class ByFileOrTest(LoadFileScheduling):
        def _split_scope(self, nodeid):
            apart = nodeid.partition("::")[0].endswith(APART)
            return nodeid if apart else super()._split_scope(nodeid)

    config.option.loadscopereorder = False  # or those of many tests would come first
    return ByFileOrTest(config, log) if config.option.dist == "loadfile" else None


@pytest.fixture(autouse=True)
def _compilation_cache():
    from resjax.process import enable_cache

    enable_cache()


@pytest.fixture
def unoptimised(monkeypatch):
    """Programs are compiled in less time and run for longer, in new processes as well.

    For tests that compare numbers but for rounding, or look at what else becomes of a run.
    """
    import jax

    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def double():
    """Arrays have float64 if nothing else is asked for."""
    import jax

    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def zygote():
    """What forks processes, for tests that need some of their own."""
    from tests.zygote import Zygote

    with Zygote() as zygote:
        yield zygote


@pytest.fixture
def tiny():
    """A config that trains in a second: plain-8 of width 2 for a few steps on digits."""
    from resjax.config import default_config

    config = default_config()
    config.model.depth = 8
    config.model.width = 2
    config.optim.learning_rate = 0.05
    config.train.batch_size = 100
    config.train.duration = "20 steps"
    config.eval.every = "10 steps"
    config.checkpoint.seconds = 1e6  # or how long it takes would say what is saved
    return config


@pytest.fixture
def tables():
    """All tables by the names in a Key; what an experiment file adds to them is taken back."""
    from resjax.config.keys import KEYS
    from resjax.config.tables import snapshot

    found = {key.table.partition(":")[2]: key.entries for key in KEYS.values() if key.table}
    restore = snapshot()
    yield {**found, "KEYS": KEYS}
    restore()


@pytest.fixture
def shortcuts(tables):
    """The table of shortcuts; what an experiment file adds to it is taken back."""
    return tables["SHORTCUTS"]
