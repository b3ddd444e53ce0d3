"""One run at a time writes into a folder."""

import os

import pytest

from captum_plq._base.folder_lock import folder_lock


def test_one_run_at_a_time_where_folders_can_be_locked(tmp_path, monkeypatch):
    with folder_lock(tmp_path):
        with pytest.raises(ValueError, match=f"process {os.getpid()}"), folder_lock(tmp_path):
            pass
        assert [path.name for path in tmp_path.iterdir()] == [".captum-plq.lock"]
    fcntl = pytest.importorskip("fcntl")

    def unsupported(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with pytest.warns(UserWarning, match="cannot be locked"), folder_lock(tmp_path):
        pass
