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

from captum_plq.network import state as _state
from tests.conftest import assert_untouched, snapshot


class Interrupted(Exception):
    pass


endings = pytest.mark.parametrize("fails", [False, True], ids=["success", "exception"])


def end(fails):
    if fails:
        raise Interrupted


class OwnTrain(nn.Module):
    """As converted networks do: ``train`` is not to be called on them."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def train(self, mode=True):
        raise AssertionError("train was called")

    def eval(self):
        raise AssertionError("eval was called")

    def forward(self, x):
        return self.fc(x)


def mixed():
    """Modules in and out of training mode, parameters frozen and not, one with a .grad."""
    net = nn.Sequential(
        nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Sequential(nn.Linear(4, 2))
    )
    net[1].training = False
    net[3].training = False
    net[0].weight.requires_grad = False
    net[3][0].bias.requires_grad = False
    net[1].weight.grad = torch.full((4,), 3.0)
    return net


# --- evaluation_mode -----------------------------------------------------------------------


@endings
def test_evaluation_mode_restores_every_flag(fails):
    net = mixed()
    before = snapshot(net)
    with suppress(Interrupted), _state.evaluation_mode(net):
        assert not any(module.training for module in net.modules())
        end(fails)
    assert_untouched(before, net)


@endings
def test_evaluation_mode_calls_neither_train_nor_eval(fails):
    net = nn.Sequential(OwnTrain(), nn.Dropout(0.5))
    with suppress(Interrupted), _state.evaluation_mode(net):
        assert not net[0].training
        assert not net[1].training
        end(fails)
    assert net[0].training
    assert net[1].training


def test_evaluation_mode_moves_no_batch_statistics():
    net = mixed()
    net[1].training = True
    before = snapshot(net)
    with _state.evaluation_mode(net):
        net(torch.ones(5, 4))
    assert_untouched(before, net)


def test_evaluation_mode_may_be_nested():
    net = mixed()
    before = snapshot(net)
    with _state.evaluation_mode(net):
        with _state.evaluation_mode(net):
            pass
        assert not any(module.training for module in net.modules())
    assert_untouched(before, net)


# --- eager, never_compiled -----------------------------------------------------------------


@pytest.fixture
def compiler():
    import torch._dynamo

    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
    torch.compiler.set_stance("default")


def is_compiling(x):
    return x + 1 if torch.compiler.is_compiling() else x


@endings
@pytest.mark.usefixtures("compiler")
def test_eager_suspends_compiled_code_and_gives_it_back(fails):
    compiled, zero = torch.compile(is_compiling, backend="eager"), torch.zeros(1)
    assert compiled(zero) == 1
    with suppress(Interrupted), _state.eager():
        assert compiled(zero) == 0
        end(fails)
    assert compiled(zero) == 1


@pytest.mark.usefixtures("compiler")
def test_eager_in_two_threads_at_once_holds_for_both_and_ends_with_both():
    compiled, zero, inside = torch.compile(is_compiling, backend="eager"), torch.zeros(1), []
    assert compiled(zero) == 1
    first_in, second_in = threading.Event(), threading.Event()

    def enter_first_leave_first():
        with _state.eager():
            first_in.set()
            second_in.wait(60)

    def enter_second_leave_second():
        first_in.wait(60)
        with _state.eager():
            second_in.set()
            first.join(60)
            inside.append(float(compiled(zero)))

    first = threading.Thread(target=enter_first_leave_first)
    second = threading.Thread(target=enter_second_leave_second)
    first.start()
    second.start()
    second.join(60)
    assert inside == [0]
    assert compiled(zero) == 1


@pytest.mark.usefixtures("compiler")
def test_never_compiled_runs_as_it_is_inside_compiled_code():
    shielded = _state.never_compiled(is_compiling)
    compiled = torch.compile(lambda x: shielded(x) + 2, backend="eager")
    assert compiled(torch.zeros(1)) == 2


def test_never_compiled_passes_arguments_results_errors_and_the_name():
    @_state.never_compiled
    def divide(a, *, by):
        """Divides."""
        return a / by

    assert divide(6, by=3) == 2
    assert divide.__name__ == "divide"
    assert divide.__doc__ == "Divides."
    with pytest.raises(ZeroDivisionError):
        divide(1, by=0)


# --- untraced ------------------------------------------------------------------------------


@endings
def test_untraced_records_nothing_and_lets_tracing_go_on(fails):
    def function(x):
        x = x * 2
        with suppress(Interrupted), _state.untraced():
            assert torch._C._get_tracing_state() is None
            torch.sin(x)
            end(fails)
        assert torch._C._get_tracing_state() is not None
        return torch.cos(x)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(function, torch.ones(3), check_trace=False)
    kinds = [node.kind() for node in traced.graph.nodes()]
    assert "aten::sin" not in kinds
    assert {"aten::mul", "aten::cos"} <= set(kinds)
    assert torch.equal(traced(torch.zeros(3)), torch.ones(3))


@endings
def test_untraced_does_nothing_where_nothing_is_traced(fails):
    with suppress(Interrupted), _state.untraced():
        assert torch._C._get_tracing_state() is None
        end(fails)
    assert torch._C._get_tracing_state() is None


# --- untouched_rng -------------------------------------------------------------------------


@endings
def test_untouched_rng_restores_the_state(fails):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with suppress(Interrupted), _state.untouched_rng([torch.ones(1), "no tensor", None]):
        torch.rand(3)
        assert not torch.equal(torch.get_rng_state(), before)
        end(fails)
    assert torch.equal(torch.get_rng_state(), before)


def test_untouched_rng_goes_on_from_the_present_state():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with _state.untouched_rng([]):
        assert torch.equal(torch.rand(3), expected)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_untouched_rng_restores_the_state_of_the_gpu():
    before = torch.cuda.get_rng_state()
    with _state.untouched_rng([torch.ones(1, device="cuda")]):
        torch.rand(3, device="cuda")
    assert torch.equal(torch.cuda.get_rng_state(), before)


# --- differentiable_copies -----------------------------------------------------------------


def test_copies_are_leaves_that_share_memory_and_require_grad():
    x = torch.rand(2, 3)
    (copy,) = _state.differentiable_copies([x])
    assert copy.requires_grad
    assert copy.is_leaf
    assert copy.data_ptr() == x.data_ptr()


def test_the_caller_s_flags_and_gradients_stay():
    plain = torch.rand(2, 3)
    leaf = torch.rand(2, 3, requires_grad=True)
    leaf.grad = torch.full((2, 3), 7.0)
    inner = torch.rand(2, 3, requires_grad=True) * 2
    copies = _state.differentiable_copies([plain, leaf, inner])
    sum(x.square().sum() for x in copies).backward()
    assert all(x.grad is not None for x in copies)
    assert not plain.requires_grad
    assert plain.grad is None
    assert leaf.requires_grad
    assert torch.equal(leaf.grad, torch.full((2, 3), 7.0))
    assert inner.grad_fn is not None


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_copies_keep_the_dtype(dtype):
    (copy,) = _state.differentiable_copies([torch.ones(2, dtype=dtype)])
    assert copy.dtype == dtype
    assert copy.requires_grad


def test_what_cannot_have_a_gradient_passes_as_it_is():
    others = [torch.arange(3), torch.tensor([True]), "text", None, 2.5, [torch.ones(1)]]
    assert all(a is b for a, b in zip(_state.differentiable_copies(others), others, strict=True))


def test_inference_tensors_are_cloned():
    with torch.inference_mode():
        x = torch.rand(2, 3)
    (copy,) = _state.differentiable_copies([x])
    assert not copy.is_inference()
    copy.square().sum().backward()
    torch.testing.assert_close(copy.grad, 2 * copy.detach())
    assert copy.data_ptr() != x.data_ptr()
    assert x.is_inference()


def test_copies_can_be_made_within_inference_mode_once_it_is_left():
    with torch.inference_mode():
        x = torch.rand(2, 3)
        with torch.inference_mode(False):
            (copy,) = _state.differentiable_copies([x])
            copy.square().sum().backward()
    assert copy.grad is not None


# --- check_images --------------------------------------------------------------------------


@pytest.mark.parametrize("images", [[[1.0, 2.0]], ["face.png"], [None], [torch.ones(1, 2), 3]])
def test_images_that_are_no_tensors(images):
    with pytest.raises(TypeError, match="must be tensors"):
        _state.check_images(images)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool, torch.complex64])
def test_images_without_gradients(dtype):
    with pytest.raises(TypeError, match="floating point"):
        _state.check_images([torch.ones(1, 3, 4, 4, dtype=dtype)])


@pytest.mark.parametrize("shape", [(), (0,), (0, 3, 4, 4)])
def test_images_without_rows(shape):
    with pytest.raises(ValueError, match="batch"):
        _state.check_images([torch.ones(shape)])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("which", [0, 1])
def test_images_with_a_pixel_that_is_not_finite(value, which):
    images = [torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)]
    images[which][1, 2, 3, 0] = value
    with pytest.raises(ValueError, match="NaN or infinite"):
        _state.check_images(images)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_fine_images(dtype):
    _state.check_images([torch.rand(2, 3, 4, 4).to(dtype), torch.zeros(1, dtype=dtype)])
    _state.check_images(())


def test_checking_is_not_traced():
    def function(x):
        _state.check_images([x])
        return x * 2

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        traced = torch.jit.trace(function, torch.ones(2, 3))
    assert not [w for w in caught if issubclass(w.category, torch.jit.TracerWarning)]
    assert "aten::isfinite" not in [node.kind() for node in traced.graph.nodes()]


# --- nothing is imported that is not needed ------------------------------------------------


def run_python(code):
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_neither_import_nor_attribution_loads_the_compiler():
    done = run_python(
        """
        import sys
        import torch
        from torch import nn
        import captum_plq
        assert "torch._dynamo" not in sys.modules, "import"
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 8))
        images = torch.rand(2, 3, 8, 8)
        captum_plq.PixelQualityAttribution(net).attribute(images)
        captum_plq.PixelQualityAttribution(net, target_scalar="serfiq").attribute(images)
        captum_plq.SERFIQ(net)(images)
        assert "torch._dynamo" not in sys.modules, "attribution"
        """
    )
    assert done.returncode == 0, done.stderr
