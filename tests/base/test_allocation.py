"""Memory that is kept from one forward to the next."""

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from captum_plq._base.allocation import keep_freed_memory
from captum_plq._base.lanes import in_lanes

if "keep" in sys.argv:
    keep_freed_memory()
torch.set_num_threads(2)
layer, images = torch.nn.Conv2d(3, 32, 3), torch.zeros(32, 3, 112, 112)

def forward(_):
    with torch.no_grad():
        layer(images).relu()

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    list(in_lanes(forward, range(8), lanes=2))
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator than glibc's")
def test_kept_memory_is_not_faulted_in_again_unless_the_user_chose_otherwise():
    def faults(*arguments, **chosen):
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC"))}
        command = [sys.executable, "-c", FAULTS, *arguments]
        ran = subprocess.run(
            command, env=inherited | chosen, check=True, capture_output=True, text=True
        )
        return int(ran.stdout)

    given_back, kept = faults(), faults("keep")
    assert kept * 10 < given_back
    assert kept * 10 < faults("keep", MALLOC_ARENA_MAX="8")
