"""The speed protocol: what each method costs, as a ratio to Saliency on the same network."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.harness.cost import OperatorCost, counted_passes
from benchmarks.harness.environment import current_environment, reproducible_settings
from benchmarks.harness.memory import METHOD, peak_bytes
from benchmarks.harness.roofline import Rates, floor_seconds, measure_rates
from benchmarks.harness.timing import Spread, clock_for, is_void, ratios, run_rounds
from benchmarks.protocols.speed_results import MethodResult, SpeedResult
from benchmarks.subjects.attributions import REFERENCE, REPEATED
from benchmarks.subjects.methods import Method, check_maps
from benchmarks.subjects.models import BenchmarkModel
from benchmarks.subjects.network import ExplainedNetwork

__all__ = ["SpeedSettings", "measure_speed"]


@dataclass(frozen=True)
class SpeedSettings:
    """The choices of a run.

    Args:

        device (str): ``"cpu"`` or ``"cuda"``.
        dtype (torch.dtype): Weights and images are cast to it.
        tf32 (bool): See :func:`~benchmarks.harness.environment.reproducible_settings`.
        channels_last (bool): Weights and images of convolutions in this memory format.
        threads (int, optional): ``None``: torch's own number.
        rounds (int): Interleaved rounds.
        slow_rounds (int): Of these, how many the slow methods take part in.
        passes (int): m of SER-FIQ.
        dropout (float): p of SER-FIQ.
        seed (int): Of everything that is drawn.
        rows (int, optional): Images that methods with many forwards put through at a time.
            ``None``: 32, on a GPU 256.
    """

    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    tf32: bool = False
    channels_last: bool = False
    threads: int | None = None
    rounds: int = 9
    slow_rounds: int = 3
    passes: int = 100
    dropout: float = 0.5
    seed: int = 0
    rows: int | None = None


def measure_speed(
    model: BenchmarkModel, batch: int, methods: Sequence[Method], settings: SpeedSettings
) -> SpeedResult:
    """Measures what methods cost on one network at one batch size.

    First each method runs on its own: on one image, to make what it keeps between calls, then
    twice on the batch, to count arithmetic and passes and for peak memory. This warms it up,
    and a method that fails is left out with its reason. Then come the interleaved rounds. The
    caller's random states, threads and flags are put back.

    Args:

        model (BenchmarkModel): The network; it is moved and cast in place.
        batch (int): B.
        methods (sequence of Method): With both Saliencies, as
            :func:`~benchmarks.subjects.methods.select_methods` returns them.
        settings (SpeedSettings): How.

    Returns:
        *SpeedResult*

    Raises:
        RuntimeError: if the device is not there.
    """
    device = torch.device(settings.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("There is no CUDA device here: run with --device cpu.")
    rows = settings.rows or (256 if device.type == "cuda" else 32)
    with reproducible_settings(settings.threads, settings.tf32, settings.seed):
        layout = torch.channels_last if settings.channels_last else torch.contiguous_format
        network = model.network.to(device, settings.dtype).to(memory_format=layout)
        images = model.images(batch, settings.seed).to(device, settings.dtype)
        images = images.to(memory_format=layout)
        subject = ExplainedNetwork(
            network, model.low, model.high, settings.passes, settings.dropout, settings.seed, rows
        )
        conditions = current_environment(
            device,
            settings.dtype,
            passes=settings.passes,
            dropout=settings.dropout,
            seed=settings.seed,
            rows=rows,
            channels_last=settings.channels_last,
        )
        rates = measure_rates(device, settings.dtype) if device.type == "cuda" else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results, order = _measure(subject, images, methods, settings)
    _compare(results, batch, rates)
    return SpeedResult(
        model=model.name,
        weights=model.weights,
        input_shape=list(images.shape),
        parameters=sum(p.numel() for p in network.parameters()),
        rounds=settings.rounds,
        slow_rounds=settings.slow_rounds,
        void=is_void(results[REPEATED].ratio),
        conditions=conditions,
        memory_method=METHOD[device.type],
        order=order,
        rates=rates,
        methods=list(results.values()),
    )


class _Prepared:
    """One method, bound to a batch: what is timed is :meth:`__call__`."""

    def __init__(self, method: Method, subject: ExplainedNetwork, images: Tensor) -> None:
        self.method, self.images = method, images
        self.attribute = method.build(subject)

    def __call__(self) -> Tensor:
        return self.attribute(self.images)

    def check(self, output: Tensor) -> None:
        gives_maps = self.method.gives == "attribution"
        expected = self.images.shape if gives_maps else self.images.shape[:1]
        check_maps(output, tuple(expected))


def _measure(
    subject: ExplainedNetwork, images: Tensor, methods: Sequence[Method], settings: SpeedSettings
) -> tuple[dict[str, MethodResult], list[list[str]]]:
    results: dict[str, MethodResult] = {}
    calls: dict[str, _Prepared] = {}
    for m in methods:
        result = MethodResult(m.name, m.kind, m.description, m.gives, m.slow)
        results[m.name] = result
        try:
            call = _Prepared(m, subject, images)
            _count(call, subject, result)
            result.peak_bytes = peak_bytes(call, images.device)
            calls[m.name] = call
        except Exception as error:
            result.reason = f"{type(error).__name__}: {error}"
    slow = [m.name for m in methods if m.slow]
    clock = clock_for(images.device)
    rounds = run_rounds(calls, clock, settings.rounds, slow, settings.slow_rounds)
    for name, seconds in rounds.seconds.items():
        results[name].seconds = seconds
        results[name].reason = rounds.failures.get(name)
    return results, rounds.order


def _count(call: _Prepared, subject: ExplainedNetwork, result: MethodResult) -> None:
    """The first call, under the counters."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call.attribute(call.images[:1])  # finds the layer, draws the masks
        subject.node(call.images)  # given to every method: no part of what it costs
        with counted_passes(subject.model, call.images) as passes, OperatorCost() as cost:
            output = call()
    call.check(output)
    result.forwards, result.backwards = passes.forward, passes.backward
    result.flops, result.traffic_bytes = cost.flops, cost.traffic
    result.warnings = sorted({str(w.message)[:300] for w in caught})


def _compare(results: dict[str, MethodResult], batch: int, rates: Rates | None) -> None:
    """Fills in everything that is relative to Saliency or to the device."""
    saliency = results[REFERENCE]
    for result in results.values():
        result.ratios = ratios(result.seconds, saliency.seconds)
        result.time = Spread.of(list(result.seconds.values()))
        result.ratio = Spread.of(list(result.ratios.values()))
        result.memory_ratio = _ratio(result.peak_bytes, saliency.peak_bytes)
        result.flops_ratio = _ratio(result.flops, saliency.flops)
        if result.time is None:
            continue
        result.images_per_second = batch / result.time.median
        if rates and result.flops is not None and result.traffic_bytes is not None:
            floor = floor_seconds(result.flops, result.traffic_bytes, rates)
            result.share_of_floor = floor / result.time.median


def _ratio(value: int | None, reference: int | None) -> float | None:
    return value / reference if value is not None and reference else None
