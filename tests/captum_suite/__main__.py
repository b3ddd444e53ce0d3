"""``python -m tests.captum_suite CHECKOUT``: see ``make test-captum``."""

import argparse
import sys
import unittest
import warnings
from collections import Counter
from pathlib import Path

import captum
import torch

from tests.captum_suite.adapter import NOT_FOR_US, cases, in_gpus_place, load
from tests.captum_suite.stand_ins import used


def main():
    """Runs the tests and prints the counts, then the reasons; 1: some fail."""
    parser = argparse.ArgumentParser(prog="python -m tests.captum_suite", description=__doc__)
    parser.add_argument("checkout", type=Path, help="a checkout of Captum's repository")
    options = parser.parse_args()
    if not (options.checkout / "tests" / "attr").is_dir():
        parser.error(f"{options.checkout} is no checkout of Captum's repository")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with in_gpus_place(said=True):
        tests = list(cases(load(options.checkout)))
    outcomes = [outcome for outcome in map(_outcome, tests) if outcome is not None]
    print(f"captum {captum.__version__}, torch {torch.__version__}")
    for file in dict.fromkeys(file for file, _, _ in outcomes):
        print(f"{file}: {dict(Counter(how for f, how, _ in outcomes if f == file))}")
    print(f"all: {dict(Counter(how for _, how, _ in outcomes))}")
    for (how, file, why), n in Counter((how, f, why) for f, how, why in outcomes).most_common():
        if how != "passed":
            print(f"{how} ×{n}, {file}: {why}")
    return int(any(how == "failed" for _, how, _ in outcomes))


def _outcome(test):
    """Its file, how it went and why; ``None``: it is a test of another method."""
    file, name = type(test).__module__.rpartition(".")[2], test.id().rpartition(".")[2]
    if name in NOT_FOR_US:
        return file, "left out", NOT_FOR_US[name]
    result = unittest.TestResult()
    with in_gpus_place(said=file == "test_jit"):
        test.run(result)
    wrong = [*result.failures, *result.errors]
    if wrong:
        return file, "failed", f"{name}: {wrong[0][1].strip().splitlines()[-1][:150]}"
    if test.id() not in used:
        return None
    return (file, "left out", result.skipped[0][1]) if result.skipped else (file, "passed", "")


if __name__ == "__main__":
    sys.exit(main())
