"""What lies in folders under an image's name without being one: said at once, never waited for."""

import os
import socket
import time

import pytest
from PIL import Image

from captum_plq.faces import ImageError, load_image

posix = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a POSIX file system")


def refused(path, reason: str) -> None:
    start = time.monotonic()
    with pytest.raises(ImageError, match=reason):
        load_image(path)
    assert time.monotonic() - start < 5


def test_missing_file_and_directory(tmp_path):
    refused(tmp_path / "nowhere.jpg", r"nowhere\.jpg does not exist")
    refused(tmp_path, f"{tmp_path.name} is a directory")
    refused("a\0b.jpg", "null")


@posix
def test_special_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    os.mkfifo("fifo.jpg")
    refused("fifo.jpg", r"fifo\.jpg is a named pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.jpg")
        refused("socket.jpg", r"socket\.jpg is a socket")
    for name in ("/dev/zero", "/dev/tty"):
        if os.path.exists(name):
            os.symlink(name, "device.jpg")
            refused("device.jpg", r"device\.jpg is a device")
            os.remove("device.jpg")
    for name in ("/proc/self/mem", "/proc/self/pagemap"):
        if os.path.exists(name):
            refused(name, "empty")


@posix
def test_links(tmp_path):
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    (tmp_path / "good.png").symlink_to("a.png")
    assert load_image(tmp_path / "good.png").shape == (20, 20, 3)
    (tmp_path / "dangling.png").symlink_to("nowhere")
    refused(tmp_path / "dangling.png", "a link to nothing")
    (tmp_path / "loop.png").symlink_to("loop.png")
    refused(tmp_path / "loop.png", r"loop\.png cannot be read \(")


@posix
def test_a_file_that_turns_into_a_pipe_before_it_is_opened(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    Image.new("RGB", (20, 20)).save(path)
    before = path.stat()
    path.unlink()
    os.mkfifo(path)
    monkeypatch.setattr(os, "stat", lambda *_, **__: before)
    refused(path, "a named pipe")


def test_max_bytes_is_inclusive(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (20, 20)).save(path)
    size = path.stat().st_size
    assert load_image(path, max_bytes=size).shape == (20, 20, 3)
    with pytest.raises(ImageError, match=rf"a\.png is longer than the {size - 1} bytes"):
        load_image(path, max_bytes=size - 1)
