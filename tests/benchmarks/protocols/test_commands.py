"""Every protocol that scores maps, from the command line to page and figure."""

import json

import pytest

from benchmarks.__main__ import main
from benchmarks.protocols import protocol
from tests.support.face_network import NETWORK

pytest.importorskip("cv2", reason="needs the extra [faces]")
pytest.importorskip("scipy", reason="needs the extra [benchmarks]")
pytest.importorskip("tqdm")

NULL = "plq (random weights)"
METHODS = {"plq", "random", "centre", NULL}
CONTROLS = {"true mask", "random square", "shifted mask"}


def random_mask(record, page):
    cell = record["estimates"]["auroc"]["plq"]["all"]
    assert (cell["rows"], cell["images"]) == (6, 3)
    assert record["distributions"]["method"] == "plq"
    assert "### auroc by fill, s = 20 to 40 (of 112)" in page


def curves(record, page):
    assert set(record["estimates"]["srg"]) == METHODS
    assert record["estimates"]["srg"]["plq"]["imputer=black"]["images"] == 3
    assert len(record["curves"]["mean"]["plq"][0]) == 5
    assert "srg, black" in page


def inpainting(record, page):
    assert set(record["estimates"]["iou"]) == METHODS | CONTROLS
    assert record["estimates"]["iou"]["true mask"]["all"]["mean"] == 1
    assert "paper, ArcFace" in page


def standards(record, page):
    assert record["estimates"]["quality_change"]["plq"]["cell=JPEG 3"]["rows"] == 3
    assert "kind=mask" in record["estimates"]["auroc"]["random"]
    assert "JPEG (quality: 30, 12, 5)" in page


def out_of_domain(record, page):
    assert record["estimates"]["auroc"]["plq"]["condition=grey"]["images"] == 3
    assert "| reference of 10 |" in page


def sanity(record, page):
    assert set(record["verdicts"]) == METHODS - {NULL}
    assert "weights" in record["verdicts"]["random"]
    assert [x["passes"] for x in record["repeatability"]["node"]] == [10, 30, 100, 300]
    assert all(x["map_spearman"] > 0.999 for x in record["repeatability"]["node"])
    assert "| random | fails: weights" in page


def captum(record, page):
    assert NULL in record["estimates"]["infidelity_node"]
    assert "centre" not in record["estimates"]["infidelity_node"]
    assert "### perturbation noise" in page


def recognition(record, page):
    assert set(record["methods"]) == METHODS | {"random orders"}
    assert record["threshold"]["cosine"] is None
    assert set(record["curves"]["mean"]["plq"]) == {"fnmr", "similarity", "quality"}
    assert "One person only" in page


CASES = {
    "random-mask": ("--sizes 20 --fills black,noise", random_mask),
    "curves": ("--imputers black,mean --steps 4", curves),
    "inpainting": ("--occluders square,hand --runs 2", inpainting),
    "standards": ("--kinds mask,JPEG", standards),
    "out-of-domain": ("--size 20", out_of_domain),
    "sanity": ("--samples 1 --stages 2 --others 2", sanity),
    "captum": ("--samples 4 --draws 2", captum),
    "recognition": ("--imputers mean --steps 4 --orders 2", recognition),
}


@pytest.mark.parametrize("name", CASES)
def test_command(name, tmp_path, capsys):
    options, check = CASES[name]
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
    check(record, page)
    pictures = {path.name for path in out.glob("*.png") if path.stat().st_size > 5000}
    assert pictures == {path.name for path in out.glob("*.png")}
    assert (f"{name}.png" in pictures) == (name in ("random-mask", "curves", "inpainting",
                                                    "recognition"))  # fmt: skip
    assert (f"{name}-mine.png" in pictures) == (name in ("random-mask", "inpainting", "standards"))
    assert main(given.split()) == 0, "the raw rows are taken as they are"
    assert json.loads((out / f"{name}-mine.json").read_text("utf-8")) == record


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
