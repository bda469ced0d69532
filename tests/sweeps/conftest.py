import pytest


@pytest.fixture
def mine(request, tmp_path, monkeypatch, tables):
    """The working directory of a test, with `FILE` of its module as the experiment `mine.py`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(request.module.FILE)
    return tmp_path
