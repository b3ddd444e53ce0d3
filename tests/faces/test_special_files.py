"""What lies in folders under an image's name without being one: said at once, never waited for."""

import os
import socket
import time

import pytest
from PIL import Image

from captum_plq.faces import ImageError, load_image

posix = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a POSIX file system")


def refused(path, reason: str, **options) -> None:
    start = time.monotonic()
    with pytest.raises(ImageError, match=reason):
        load_image(path, **options)
    assert time.monotonic() - start < 5


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (20, 20)).save(path)
    return path


def test_missing_files_directories_and_long_files(image):
    refused(image.with_name("nowhere.jpg"), r"nowhere\.jpg does not exist")
    refused(image.parent, f"{image.parent.name} is a directory")
    refused("a\0b.jpg", "null")
    size = image.stat().st_size
    assert load_image(image, max_bytes=size).shape == (20, 20, 3)
    refused(image, rf"a\.png is longer than the {size - 1} bytes", max_bytes=size - 1)


@posix
def test_special_files_and_links(image, monkeypatch):
    monkeypatch.chdir(image.parent)  # a socket's path must be short
    os.mkfifo("fifo.jpg")
    links = {"device.jpg": "/dev/zero", "gone.jpg": "nowhere", "loop.jpg": "loop.jpg", "b": "a.png"}
    for name, target in links.items():
        os.symlink(target, name)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.jpg")
        refused("socket.jpg", r"socket\.jpg is a socket")
    refused("fifo.jpg", r"fifo\.jpg is a named pipe")
    refused("device.jpg", r"device\.jpg is a device")
    refused("gone.jpg", "a link to nothing")
    refused("loop.jpg", r"loop\.jpg cannot be read \(")
    assert load_image("b").shape == (20, 20, 3)
    if os.path.exists("/proc/self/mem"):
        refused("/proc/self/mem", "empty")


@posix
def test_a_file_that_turns_into_a_pipe_before_it_is_opened(image, monkeypatch):
    before = image.stat()
    image.unlink()
    os.mkfifo(image)
    monkeypatch.setattr(os, "stat", lambda *_, **__: before)
    refused(image, "a named pipe")
