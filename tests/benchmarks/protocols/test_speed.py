import numpy as np
import pytest
import torch

from benchmarks.harness.environment import reproducible_settings
from benchmarks.protocols.speed import SpeedSettings, measure_speed
from benchmarks.subjects.attributions import REFERENCE, REPEATED, select_methods
from benchmarks.subjects.models import available_models, load_benchmark_model


def by_name(result):
    return {m.name: m for m in result.methods}


def test_what_was_measured(result):
    found = by_name(result)
    plq = found["plq"]
    assert list(plq.seconds) == list(plq.ratios) == [0, 1]
    assert all(plq.ratios[r] == plq.seconds[r] / found[REFERENCE].seconds[r] for r in (0, 1))
    assert plq.ratio.low <= plq.ratio.median <= plq.ratio.high
    assert (plq.forwards, plq.backwards) == (1, 1)
    assert plq.flops_ratio == plq.flops / found[REFERENCE].flops > 1
    assert plq.memory_ratio == plq.peak_bytes / found[REFERENCE].peak_bytes
    assert plq.images_per_second == 2 / plq.time.median
    assert found[REPEATED].flops_ratio == 1
    assert found[REFERENCE].ratios == {0: 1.0, 1: 1.0}
    assert list(found["official-serfiq"].seconds) == [0]
    assert result.void == (abs(found[REPEATED].ratio.median - 1) > 0.03)
    assert result.order == [
        ["plq", REFERENCE, REPEATED, "naive-plq", "official-serfiq"],
        ["plq", "naive-plq", REPEATED, REFERENCE],
    ]


def test_failures_are_recorded_and_the_others_go_on(result):
    found = by_name(result)
    assert found["broken"].reason == "LookupError: no such thing\nin this network"
    assert found["nan"].reason == "ValueError: returned NaN or infinite values"
    assert found["broken"].ratio is found["nan"].ratio is None
    assert all(m.reason is None for n, m in found.items() if n not in ("broken", "nan"))


def test_conditions(result):
    given = result.conditions
    assert (given.device, given.dtype, given.passes, given.seed) == ("cpu", "float32", 7, 3)
    assert given.threads == torch.get_num_threads()
    assert given.versions["torch"].startswith(torch.__version__.split("+")[0])
    assert given.commit
    assert given.date.endswith("+00:00")
    assert result.input_shape == [2, 3, 28, 28]
    assert result.rates is None


def test_nothing_is_left_changed():
    def state():
        backends = torch.backends.cuda.matmul, torch.backends.cudnn
        flags = [torch.get_num_threads(), *(b.allow_tf32 for b in backends)]
        return flags, torch.get_rng_state(), np.random.get_state()[1]

    flags, torch_state, numpy_state = state()
    methods = select_methods(["smoothgrad", "gradient-shap"])
    settings = SpeedSettings(rounds=1, threads=2, tf32=True, passes=2)
    measure_speed(load_benchmark_model("tiny"), 1, methods, settings)
    assert state()[0] == flags
    assert torch.equal(state()[1], torch_state)
    assert np.array_equal(state()[2], numpy_state)


def test_conditions_are_set_meanwhile_and_restored_on_errors():
    threads = torch.get_num_threads()

    def fail():
        with reproducible_settings(threads + 1, False, 0):
            raise KeyError(torch.get_num_threads())

    with pytest.raises(KeyError, match=str(threads + 1)):
        fail()
    assert torch.get_num_threads() == threads


def test_models():
    first, again, other = (load_benchmark_model("tiny", seed) for seed in (0, 0, 1))
    assert torch.equal(first.network[0].weight, again.network[0].weight)
    assert not torch.equal(first.network[0].weight, other.network[0].weight)
    assert not any(module.training for module in first.network.modules())
    assert torch.equal(first.images(2, 5), again.images(2, 5))
    assert first.images(2, 5).min() >= first.low
    assert {"dlib", "iresnet50", "vit-s", "convnext-t"} < set(available_models())
    with pytest.raises(ValueError, match="iresnet18"):
        load_benchmark_model("nonsense")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cuda(dtype):
    settings = SpeedSettings(device="cuda", dtype=dtype, rounds=2, passes=4)
    found = measure_speed(
        load_benchmark_model("tiny"), 2, select_methods(["plq", "naive-plq"]), settings
    )
    assert found.rates.matmul > 0
    assert all(m.reason is None and m.share_of_floor > 0 for m in found.methods)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_no_cuda(tiny):
    with pytest.raises(RuntimeError, match="no CUDA device"):
        measure_speed(tiny, 1, select_methods([]), SpeedSettings(device="cuda"))
