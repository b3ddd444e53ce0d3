"""Every example in a docstring runs, with what its reader would have at hand.

Where a docstring shows output, that must come out; where it shows none, anything may.
"""

import doctest
import importlib
import itertools
import pkgutil
import re
import sys
from pathlib import Path

import captum.attr
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from huggingface_hub import constants

import captum_plq
from tests.support.at_hand import COMMON, FILES, OWN_MODEL, SPECIAL, Names, own_network

MODULES = [captum_plq] + [
    importlib.import_module(found.name)
    for found in pkgutil.walk_packages(captum_plq.__path__, "captum_plq.")
]
FINDER = doctest.DocTestFinder()
EXAMPLES = {t.name: t for m in MODULES for t in FINDER.find(m, m.__name__) if t.examples}
TEXTS = {name: "".join(e.source for e in test.examples) for name, test in EXAMPLES.items()}

PUBLIC = {
    **{n: getattr(m, n) for m in (captum.attr, *MODULES) for n in getattr(m, "__all__", ())},
    **{"torch": torch, "np": np, "Path": Path, "itertools": itertools},
}


class Checker(doctest.OutputChecker):
    def check_output(self, want, got, optionflags):
        return not want or super().check_output(want, got, optionflags)


class Runner(doctest.DocTestRunner):
    """Skips an example at the package's own sentence on an extra that is not installed."""

    def report_unexpected_exception(self, out, test, example, exc_info):
        if isinstance(exc_info[1], ImportError) and "captum-plq[" in str(exc_info[1]):
            pytest.skip(str(exc_info[1]))
        super().report_unexpected_exception(out, test, example, exc_info)


@pytest.fixture(scope="module")
def common():
    return Names()


@pytest.fixture(scope="module")
def with_own_model():
    return Names(model=own_network())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where an example runs: its working directory, on the search path; and no network."""
    before = set(sys.modules)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    plt.close("all")
    for module in set(sys.modules) - before:
        if module == "iresnet" or module.startswith("_captum_plq_user_"):
            del sys.modules[module]


def of(name, key):
    """Whether a docstring is that of a part of the package, or in it."""
    return f"{name}.".startswith(f"captum_plq.{key}.")


def files_in(text):
    return [file for file in FILES if f'"{file}"' in text]


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs(name, common, with_own_model, folder):
    for file in files_in(TEXTS[name]):
        FILES[file](folder if file.startswith("hf_hub:") else folder / file)
    my = with_own_model if any(of(name, key) for key in OWN_MODEL) else common
    makers = {word: lambda my, word=word: my[word] for word in COMMON}
    for key in SPECIAL:
        makers |= SPECIAL[key] if of(name, key) else {}
    used = set(re.findall(r"\w+", TEXTS[name]))
    test = EXAMPLES[name]
    given = {word: make(my) for word, make in makers.items() if word in used}
    test.globs = {**PUBLIC, **test.globs, **given}
    report = []
    runner = Runner(Checker(), False, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    result = runner.run(test, out=report.append, clear_globs=False)
    assert result.failed == 0, "".join(report)
    assert result.attempted == len(test.examples)
    for word, value in test.globs.items():
        if isinstance(value, torch.Tensor):
            assert not value.isnan().any(), f"{word} holds NaN"


def test_they_are_found():
    """All of them: as many as there are lines that begin so, comments left out."""
    sources = [Path(module.__file__).read_text("utf-8") for module in MODULES]
    lines = re.findall(r"^ *>>> [^#\n]", "\n".join(sources), re.MULTILINE)
    assert sum(len(test.examples) for test in EXAMPLES.values()) == len(lines) >= 210
    assert len(EXAMPLES) >= 120


def test_what_is_at_hand_is_used():
    assert {file for text in TEXTS.values() for file in files_in(text)} == set(FILES)
    for key, words in {**{key: ["model"] for key in OWN_MODEL}, **SPECIAL}.items():
        text = "\n".join(text for name, text in TEXTS.items() if of(name, key))
        unused = [word for word in words if not re.search(rf"\b{word}\b", text)]
        assert not unused, key
