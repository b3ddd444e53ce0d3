"""What is borrowed is given back as it was, on success and on failure."""

import subprocess
import sys
import textwrap
import threading
import warnings
from contextlib import suppress

import pytest
import torch
from torch import nn

from captum_plq import SERFIQ
from captum_plq.network import state


def test_a_network_that_draws_when_it_is_explored_leaves_the_random_state(net, images):
    class Draws(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x + 0 * torch.rand(()))

    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert SERFIQ(Draws()).prepare(images) == "net.fc"
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture
def is_compiled():
    """A compiled function that tells whether it runs compiled."""
    import torch._dynamo

    torch._dynamo.reset()
    told = torch.compile(lambda x: x + torch.compiler.is_compiling(), backend="eager")
    assert told(torch.zeros(1)) == 1
    yield lambda: bool(told(torch.zeros(1)))
    torch._dynamo.reset()
    torch.compiler.set_stance("default")


def test_eager_in_two_threads_at_once_holds_for_both_and_ends_with_both(is_compiled):
    first_in, second_in = threading.Event(), threading.Event()

    def enter_and_leave_first():
        with suppress(KeyError), state.eager():
            first_in.set()
            second_in.wait(60)
            raise KeyError

    first = threading.Thread(target=enter_and_leave_first)
    first.start()
    first_in.wait(60)
    with state.eager():
        second_in.set()
        first.join(60)
        assert not is_compiled()
    assert is_compiled()


def test_neither_import_nor_attribution_loads_the_compiler():
    code = """
        import sys
        import torch
        from torch import nn
        import captum_plq
        assert "torch._dynamo" not in sys.modules, "import"
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 8))
        images = torch.rand(2, 3, 8, 8)
        captum_plq.PixelQualityAttribution(net).attribute(images)
        captum_plq.PixelQualityAttribution(net, target_scalar="serfiq").attribute(images)
        assert "torch._dynamo" not in sys.modules, "attribution"
        """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("fails", [False, True])
def test_untraced_records_nothing_and_lets_tracing_go_on(fails):
    def function(x):
        state.check_images([x])
        with suppress(ZeroDivisionError), state.untraced():
            torch.sin(x)
            assert 1 / (not fails)
        return torch.cos(x)

    with warnings.catch_warnings():
        warnings.simplefilter("error", torch.jit.TracerWarning)
        traced = torch.jit.trace(function, torch.ones(2, 3), check_trace=False)
    assert {node.kind() for node in traced.graph.nodes()} == {"aten::cos"}


@pytest.mark.parametrize(
    ("images", "error", "words"),
    [
        ("face.png", TypeError, "must be tensors"),
        (torch.ones(1, 3, 4, 4, dtype=torch.uint8), TypeError, r"uint8.*\.float\(\)"),
        (torch.ones(1, 3, 4, 4, dtype=torch.complex64), TypeError, "floating point"),
        (torch.ones(2, 3).to_sparse(), TypeError, "dense"),
        (torch.ones(2, 3, device="meta"), TypeError, "meta device"),
        (torch.ones(()), ValueError, "batch"),
        (torch.ones(0, 3, 4, 4), ValueError, "batch"),
        (torch.tensor([1.0, torch.nan]), ValueError, r"NaN or infinite.*image 1 of a batch of 2"),
        (torch.ones(2, 3) / 0, ValueError, "NaN or infinite"),
    ],
)
def test_images_that_cannot_be_explained(images, error, words):
    with pytest.raises(error, match=words):
        state.check_images([torch.ones(1), images])
    with pytest.raises(error, match=words):
        SERFIQ(nn.Linear(3, 3))(images)
