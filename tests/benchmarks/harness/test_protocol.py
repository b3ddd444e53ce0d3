"""A protocol of one file: its command, its records, its page; and the command line of all."""

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Annotated, ClassVar

import cyclopts
import pytest

from benchmarks.__main__ import main
from benchmarks.harness.options import PositiveInt, some_of
from benchmarks.harness.protocol import Protocol, write_record
from benchmarks.protocols import PROTOCOLS, protocol


@dataclass(frozen=True, kw_only=True)
class Brightness(Protocol):
    """Measure nothing."""

    name: ClassVar[str] = "brightness"
    levels: Annotated[tuple[str, ...], some_of(("dark", "light"))] = ("dark",)
    steps: PositiveInt = 10

    def measure(self, model):
        with self.environment(passes=3) as (_, environment):
            assert environment["passes"] == 3
            void = model == "void"
            yield f"brightness-{model}", {"model": model, "steps": self.steps, "void": void}

    @classmethod
    def page(cls, records):
        return "\n".join(record["model"] for record in records)


def chosen(text):
    app = cyclopts.App(default_command=Brightness, result_action="return_value")
    return app(text, exit_on_error=False, print_error=False)


def test_the_fields_are_the_options(tmp_path, capsys):
    found = chosen(f"--model a,b --levels dark,light --steps 3 -o {tmp_path}")
    assert (found.model, found.levels, found.steps) == (("a", "b"), ("dark", "light"), 3)
    assert found.run() == 0
    assert json.loads((tmp_path / "brightness-a.json").read_text())["steps"] == 3
    assert (tmp_path / "brightness.md").read_text() == "a\nb"
    assert chosen(f"--model void -o {tmp_path}").run() == 1
    assert "brightness-void.json (void)" in capsys.readouterr().out
    with pytest.raises(cyclopts.CycloptsError, match="grey"):
        chosen("--model a --levels dark,grey")


def test_cuda_that_is_not_there_is_said(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(RuntimeError, match="no CUDA device"):
        next(Brightness(model=("a",), device="cuda").measure("a"))


def test_a_record_of_nan_is_not_written(tmp_path):
    path = write_record(tmp_path / "new" / "a.json", {"é": 1})
    with pytest.raises(ValueError, match="nan"):
        write_record(path, {"a": float("nan")})
    assert json.loads(path.read_text("utf-8")) == {"é": 1}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_is_registered_and_helps(name, capsys):
    assert protocol(name).name == name
    assert main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert PROTOCOLS[name][1] in " ".join(shown.split())
    assert f"python -m benchmarks {name} --model" in shown


def test_the_command_line_is_quick_to_help():
    code = (
        "import sys; from benchmarks.__main__ import main; main(['--help']); "
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in (*PROTOCOLS, "all", "report", "readme", "amend"))
