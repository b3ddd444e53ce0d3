"""``captum-plq suitability`` on real files."""

import json

import numpy as np
import pytest

from captum_plq.faces import load_image
from captum_plq.models import load_model
from captum_plq.suitability import assess_suitability


def test_prints_and_writes_what_the_python_call_gives(run, folder, network, small, capsys):
    out = folder.parent / "out" / "mine.json"
    assert run("suitability", folder, *small, "--faces", 22, "--seed", 3, "-o", out) == 0
    printed = capsys.readouterr()
    record = json.loads(out.read_text("utf-8"))
    lines = printed.out.splitlines()
    assert lines[0] == f"mine: SER-FIQ as usual on this network: {record['verdict']}"
    assert lines[-1] == str(out)
    assert "22 of 22 images" in printed.err
    people = [name.split("/")[0] for name in record["images"]]
    assert len(people) == 22
    assert len(set(people[:13])) == 13  # other people before second shots
    assert (record["model"], record["left_out"]) == ("mine", [])
    assert {t["site"]["kind"] for t in record["trials"]} == {"last linear map", "global pooling"}
    assert record["versions"]["torch"]
    chips = np.stack([load_image(folder / name) for name in record["images"]])
    expected = assess_suitability(load_model(network), chips, passes=5, seed=3)
    assert {k: record[k] for k in expected.to_json()} == json.loads(json.dumps(expected.to_json()))


def test_bad_images_are_recorded_and_the_rest_goes_on(run, folder, crops, small, capsys):
    crops[0].write_bytes(b"no image")
    out = folder.parent / "mine.json"
    assert run("suitability", folder, *small, "--faces", 30, "-o", out) == 0
    record = json.loads(out.read_text("utf-8"))
    assert [entry["image"] for entry in record["left_out"]] == [str(crops[0])]
    assert "not an image" in record["left_out"][0]["reason"]
    assert len(record["images"]) == 25
    errors = capsys.readouterr().err
    assert f"{crops[0]}: left out: is not an image" in errors
    assert "25 usable faces; 30 were asked for" in errors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--faces", "0"], "--faces must be at least 1"),
        (["--faces", "19"], "at least 20 images"),
        (["--passes", "1"], "passes must be an integer of at least 2"),
        (["--device", "abacus"], "cannot be used here"),
        (["--model", "no-such-network"], "There is no network"),
    ],
)
def test_wrong_parameters_end_in_one_line(run, folder, small, capsys, change, message):
    assert run("suitability", folder, *small, *change) == 1
    (last,) = (x for x in capsys.readouterr().err.splitlines() if x.startswith("captum-plq: "))
    assert message in last


def test_a_folder_without_faces(run, folder, network, capsys):
    for path in (folder / "p00", folder / "nowhere"):
        assert run("suitability", path, "--model", network) == 1
    errors = capsys.readouterr().err
    assert "no usable face; 2 images were left out" in errors
    assert "There is no folder" in errors
