"""The protocol of photos: shares by hand, and a run on faces that are none."""

import json

import numpy as np
import pytest

pytest.importorskip("dlib", reason="needs the extra [faces]")

from PIL import Image

from benchmarks.protocols import protocol
from benchmarks.protocols.photos.cut_off import _fired, _told
from captum_plq.faces import sample_face
from tests.support.face_network import NETWORK, write_pairs

NAN = float("nan")


def test_what_is_said_of_photos_is_counted():
    found = np.array([(NAN, NAN, NAN), (0.25, 0.3, 2.0), (1.0, 0.3, 0.1), (1.0, 0.01, 0.3)])
    told = _told(found)
    assert [told[key] for key in ("not found", "perhaps no face", "cut off", "neither")] == [
        0.25
    ] * 4
    assert told["cut_off"][1] == pytest.approx(0.155)
    assert (told["elsewhere"], told["weak elsewhere"]) == (pytest.approx(2 / 3), 1.0)
    nobody = _told(found[:1])
    assert (nobody["cut_off"], nobody["elsewhere"]) == (None, None)


def test_limits_count_sure_detections_at_the_worst_side():
    sure = np.array([(1.0, x, 0.0) for x in (0.05, 0.2, 0.3, 0.4)])
    weak = np.array([(0.1, 0.9, 0.0)])
    columns = {
        "whole": np.concatenate([sure, weak]),
        "whole, the crop alone": sure / [1, 10, 1],
        "left 10%": sure / [1, 99, 1],
        "left 25%": sure,
        "top 35%": sure * [1, 2, 1],
        "bottom 35%": weak,
        "mask": sure / [1, 99, 1],
    }
    assert _fired(columns, 0.25) == {"whole": 0.5, "cut": 0.5}


def test_a_run_writes_record_and_page(tmp_path):
    network = tmp_path / "mine.py"
    network.write_text(NETWORK)
    images, pairs = write_pairs(tmp_path, 4, 112)
    for path in images.glob("*/*.png"):
        Image.fromarray(sample_face().chip).save(path)
    lines = ["fold,first,second,mated"]
    for fold, a, b in ((1, "p0", "p1"), (2, "p2", "p3")):
        lines += [f"{fold},{a}/1.png,{b}/1.png,0", f"{fold},{a}/1.png,{a}/2.png,1"]
    pairs.write_text("\n".join(lines))
    options = {"images": images, "pairs": pairs, "faces": 1, "shares": (0.3,)}
    study = protocol("photos")(
        model=(str(network),), set_on="1", report_on="2", output=tmp_path / "out", **options
    )
    assert study.run() == 0
    record = json.loads((tmp_path / "out" / "photos-mine.json").read_text("utf-8"))
    own = record["folds"]["2"]
    assert own["people"] == 1
    assert own["photos"]["whole"]["neither"] == own["photos"]["top 30%"]["cut off"] == 1
    assert own["photos"]["top 30%"]["cut_off"][1] == pytest.approx(0.3, abs=0.06)
    assert own["photos"]["left 30%"]["elsewhere"] in (0, None)
    assert own["limits"]["0.08"]["whole"] == 0
    assert set(own["verdicts"]) == {"all rules", "without those on the detection"}
    assert "| top 30% | 0.0% |" in (tmp_path / "out" / "photos.md").read_text("utf-8")
