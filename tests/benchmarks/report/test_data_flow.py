"""The paper's Fig. 1: it shows what the package computes."""

import re

import pytest
import torch

from benchmarks.report.data_flow import _stochastic_embeddings, data_flow_figure
from captum_plq import SERFIQ
from captum_plq.faces import sample_face
from captum_plq.functional import quality_from_embeddings
from captum_plq.models import load_model
from tests.conftest import assert_untouched, snapshot


def test_six_panels_in_the_paper_s_three_steps():
    images = torch.from_numpy(sample_face().chip).permute(2, 0, 1)[None].float()
    model = load_model("mobilefacenet-dropout").eval()
    serfiq, before = SERFIQ(model), snapshot(model)
    embeddings = _stochastic_embeddings(serfiq, images)
    assert_untouched(before, model)
    quality = serfiq(images).item()
    assert quality_from_embeddings(embeddings[None]).item() == pytest.approx(quality, abs=1e-5)
    figure = data_flow_figure()
    assert len(figure.axes) == 6
    words = " ".join(text.get_text() for axes in figure.axes for text in axes.texts)
    assert f"Q = {quality:.3f}" in words
    assert re.findall(r"\(Eq\. (\d)\)", words) == list("123456")
