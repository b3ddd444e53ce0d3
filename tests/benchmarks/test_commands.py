"""Every protocol that scores maps, from the command line to page and figure."""

import json
from functools import reduce
from operator import getitem

import pytest

from benchmarks.__main__ import main
from benchmarks.protocols import protocol
from tests.support.face_network import NETWORK

pytest.importorskip("cv2", reason="needs the extra [faces]")

NULL = "plq (random weights)"
METHODS = {"plq", "random", "centre", NULL}


CASES = {
    "random-mask": (
        "--sizes 20 --fills black,noise",
        ["distributions/method", "estimates/auroc/plq/middle=noise"],
        "### auroc by fill, s = 20 to 40 (of 112)",
    ),
    "level": (
        "",
        ["estimates/auroc/Q/condition=blur σ3", f"estimates/spearman/{NULL}/all"],
        "### AUROC, clean against degraded",
    ),
    "curves": (
        "--imputers black,mean --steps 4",
        ["estimates/srg/plq/imputer=black", "curves/mean/plq"],
        "srg, black",
    ),
    "inpainting": (
        "--occluders square,hand --runs 2 --widened 0,1",
        [
            "estimates/iou/shifted mask",
            f"estimates/improved/{NULL}/filler=eigenface, 1 px wider/networks",
            "estimates/outcome/random square/cell=hand, telea",
        ],
        "### Share improved less share decreased, by filler",
    ),
    "standards": (
        "--kinds mask,JPEG",
        ["estimates/quality_change/plq/cell=JPEG 3", "estimates/auroc/random/kind=mask"],
        "JPEG (quality: 30, 12, 5)",
    ),
    "out-of-domain": (
        "--size 20", ["estimates/auroc/plq/condition=grey"], "| reference of 10 |"
    ),
    "sanity": (
        "--samples 1 --stages 2 --others 2", ["verdicts/random", "repeatability/node"],
        "| random | fails: weights",
    ),
    "captum": (
        "--samples 4 --draws 2", [f"estimates/infidelity_node/{NULL}"], "### perturbation noise"
    ),
    "recognition": (
        "--imputers mean --steps 4 --orders 2",
        ["curves/mean/plq/similarity", "methods/random orders"],
        "One person only",
    ),
}  # fmt: skip
"""Options of each, keys that lead to something in its record, and words of its page."""


@pytest.mark.parametrize("name", CASES)
def test_command(name, tmp_path, capsys):
    options, paths, words = CASES[name]
    network = tmp_path / "mine.py"
    network.write_text(NETWORK)
    out = tmp_path / "out"
    given = f"{name} --model {network} --faces 3 --reference 4 --batch 2 --passes 5 "
    given += f"--methods plq,random,centre --random-weights plq -o {out} {options}"
    assert main(given.split()) == 0
    assert "ONE face" in capsys.readouterr().out
    record = json.loads((out / f"{name}-mine.json").read_text("utf-8"))
    assert record["failed"] == {}
    assert set(record["methods"]) >= METHODS
    page = (out / f"{name}.md").read_text("utf-8")
    assert page == protocol(name).page([record])
    assert "**ONE face" in page
    _, _, meanings = protocol(name).words()
    assert set(meanings) == set(record["estimates"])
    assert set(protocol(name).forms) <= set(meanings)
    assert all(f"- `{column}`: {meaning}" in page for column, meaning in meanings.items())
    for path in paths:
        assert reduce(getitem, path.split("/"), record)
    assert words in page
    cells = [own["plq"]["all"]["images"] for own in record["estimates"].values() if "plq" in own]
    assert set(cells) <= {3}
    pictures = {path.name for path in out.glob("*.png") if path.stat().st_size > 5000}
    assert pictures == {path.name for path in out.glob("*.png")}
    assert (f"{name}.png" in pictures) == (name in ("random-mask", "curves", "inpainting",
                                                    "recognition"))  # fmt: skip
    assert (f"{name}-mine.png" in pictures) == (name in ("random-mask", "inpainting", "standards"))
    assert main(given.split()) == 0, "the raw rows are taken as they are"
    assert json.loads((out / f"{name}-mine.json").read_text("utf-8")) == record


def test_results_on_other_faces_stand_beside(tmp_path):
    (network := tmp_path / "mine.py").write_text(NETWORK)
    given = f"curves --model {network} --faces 2 --reference 4 --passes 5 --methods random "
    given += f"--imputers mean --steps 2 -o {tmp_path}"
    for label in ("", "--label others"):
        assert main([*given.split(), *label.split()]) == 0
    page = (tmp_path / "curves.md").read_text("utf-8")
    assert "## mine\n" in page
    assert "## mine, others\n" in page
    assert (tmp_path / "curves-mine-others.json").exists()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("curves --imputers grey", "grey"),
        ("curves --imputers ,", "at least one"),
        ("curves --steps 0", "> 0"),
        ("curves --methods plqq", "plqq"),
        ("curves --stesp 3", "Did you mean --steps"),
        ("curvse", "Did you mean"),
        ("random-mask --fills red", "red"),
        ("inpainting --occluders beard", "beard"),
        ("inpainting --runs 1", ">= 2"),
        ("standards --kinds fog", "fog"),
        ("captum --perturbations rain", "rain"),
        ("recognition --images .", "go together"),
    ],
)
def test_what_does_not_fit_is_said(command, message, tmp_path, capsys):
    (tmp_path / "mine.py").write_text(NETWORK)
    given = [*command.split(), "--model", str(tmp_path / "mine.py"), "-o", str(tmp_path)]
    assert main(given) == 2
    assert message in capsys.readouterr().err
