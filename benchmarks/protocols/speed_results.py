"""What the speed protocol found, to JSON and back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.harness.environment import Environment
from benchmarks.harness.roofline import Rates
from benchmarks.harness.timing import Spread

__all__ = ["MethodResult", "SpeedResult"]


@dataclass
class MethodResult:
    """What one method cost. ``None``: not measured. Ratios are to Saliency's.

    Args:

        name, kind, description, gives, slow: as in :class:`~benchmarks.subjects.methods.Method`.
        reason (str, optional): Why it failed; everything after is then empty.
        warnings (list[str]): What it warned of at its first call.
        seconds (dict): Round → seconds.
        ratios (dict): Round → seconds over Saliency's in the same round.
        time (Spread): Of ``seconds``.
        ratio (Spread): Of ``ratios``.
        images_per_second (float): Batch over median time.
        peak_bytes (int): Peak memory above what was there before the call.
        memory_ratio (float): Of ``peak_bytes``.
        flops (int), traffic_bytes (int): see :class:`~benchmarks.harness.cost.OperatorCost`.
        flops_ratio (float): Of ``flops``.
        forwards (float), backwards (float): see :class:`~benchmarks.harness.cost.Passes`.
        share_of_floor (float): Floor over median time, 1 is the best; on a GPU only.
    """

    name: str
    kind: str
    description: str
    gives: str
    slow: bool
    reason: str | None = None
    warnings: list[str] = field(default_factory=list)
    seconds: dict[int, float] = field(default_factory=dict)
    ratios: dict[int, float] = field(default_factory=dict)
    time: Spread | None = None
    ratio: Spread | None = None
    images_per_second: float | None = None
    peak_bytes: int | None = None
    memory_ratio: float | None = None
    flops: int | None = None
    flops_ratio: float | None = None
    traffic_bytes: int | None = None
    forwards: float | None = None
    backwards: float | None = None
    share_of_floor: float | None = None

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> MethodResult:
        """What :func:`dataclasses.asdict` and JSON made of one."""
        record = dict(record)
        for key in ("time", "ratio"):
            record[key] = None if record[key] is None else Spread(**record[key])
        for key in ("seconds", "ratios"):
            record[key] = {int(number): value for number, value in record[key].items()}
        return cls(**record)


@dataclass
class SpeedResult:
    """One network at one batch size under one set of conditions.

    Args:

        model (str): Its name.
        weights (str): Where its weights come from.
        input_shape (list[int]): (B, C, H, W).
        parameters (int): How many it has.
        rounds (int), slow_rounds (int): see :class:`SpeedSettings`.
        void (bool): Saliency was not within 3 % of itself: throw the times away.
        conditions (Environment): Device, versions and all the rest.
        memory_method (str): How the peak memory was measured.
        order (list[list[str]]): What ran after what in each round.
        rates (Rates, optional): The device's, for the floor; on a GPU only.
        methods (list[MethodResult]): In the registry's order.
    """

    model: str
    weights: str
    input_shape: list[int]
    parameters: int
    rounds: int
    slow_rounds: int
    void: bool
    conditions: Environment
    memory_method: str
    order: list[list[str]]
    rates: Rates | None
    methods: list[MethodResult]

    @property
    def stem(self) -> str:
        """Name of its file: what tells it from other runs on the same machine."""
        return f"speed-{self.model}-{self.conditions.device}-b{self.batch}{self.kind}"

    @property
    def title(self) -> str:
        """What it is of, in words."""
        given = self.conditions
        dtype = "" if given.dtype == "float32" else f", {given.dtype}"
        extras = ", TF32" * given.tf32 + ", channels last" * given.channels_last
        return f"{self.model}, {given.device}, batch {self.batch}{dtype}{extras}"

    @property
    def kind(self) -> str:
        """Ending of the file name that tells type, TF32 and memory format, if not the usual."""
        given = self.conditions
        dtype = "" if given.dtype == "float32" else f"-{given.dtype}"
        tf32 = "-tf32" if given.tf32 else ""
        return dtype + tf32 + ("-channels-last" if given.channels_last else "")

    @property
    def batch(self) -> int:
        """B."""
        return self.input_shape[0]

    def to_json(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> SpeedResult:
        """The inverse of :meth:`to_json`."""
        record = dict(record)
        record["conditions"] = Environment(**record["conditions"])
        record["rates"] = None if record["rates"] is None else Rates(**record["rates"])
        record["methods"] = [MethodResult.from_json(m) for m in record["methods"]]
        return cls(**record)
