"""Worker processes end with the process that began them."""

import subprocess
import sys

import numpy as np
from PIL import Image

INTERRUPTED = """
import multiprocessing
import sys

from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from captum_plq.preparation import Preparation, Workers, chunks_of, list_photos

entries = list_photos([sys.argv[1]])
how = Preparation(template="arcface", size=(112, 112), aligned=True)
chunks = chunks_of(entries, [(i, i + 1) for i in range(len(entries))], how, Workers(1))
next(chunks)
print(multiprocessing.active_children()[0].pid, flush=True)
_MultiProcessingDataLoaderIter._shutdown_workers = lambda self: None  # a second Ctrl-C cuts it off
raise KeyboardInterrupt
"""


def test_an_end_that_is_interrupted_leaves_no_worker_and_does_not_hang(tmp_path):
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 256, (112, 112, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "KeyboardInterrupt" in ended.stderr
    listed = subprocess.run(
        ["ps", "-o", "stat=", "-p", ended.stdout.strip()], capture_output=True, text=True
    )
    assert listed.stdout.strip()[:1] in ("", "Z")
