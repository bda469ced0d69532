import os

import hypothesis
import pytest

# A timing decides no test; how long an example takes depends on what else the machine does.
hypothesis.settings.register_profile("resjax", deadline=None)
hypothesis.settings.load_profile("resjax")


def pytest_configure(config):
    # Programs are compiled once for all tests, subprocesses and later sessions included.
    if config.pluginmanager.hasplugin("cacheprovider"):
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(config.cache.mkdir("compiled")))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """By file, as what its fixtures make is shared; notebooks take minutes and share nothing."""
    from xdist.scheduler import LoadFileScheduling

    class ByFileOrNotebook(LoadFileScheduling):
        def _split_scope(self, nodeid):
            return nodeid if "test_notebooks.py" in nodeid else super()._split_scope(nodeid)

    return ByFileOrNotebook(config, log) if config.option.dist == "loadfile" else None


@pytest.fixture(autouse=True)
def _compilation_cache():
    from resjax.training.compilation import enable_cache

    enable_cache()


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
    return config


@pytest.fixture
def shortcuts():
    """The table of shortcuts; what an experiment file adds to it is taken back."""
    from resjax.models.shortcuts import SHORTCUTS

    before = dict(SHORTCUTS)
    yield SHORTCUTS
    SHORTCUTS.clear()
    SHORTCUTS.update(before)
