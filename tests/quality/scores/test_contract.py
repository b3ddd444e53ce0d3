"""The contract over all scores, and that it bites."""

import pytest
import torch

from captum_plq.quality.scores import SCORES, make_score
from captum_plq.quality.scores.embedding_norm import EmbeddingNorm
from tests.quality.scores.contract import CHECKS, makers


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", SCORES)
def test_contract(name, check):
    check(name, makers()[name])


def nothing(*_):
    """A hook."""


BREACHES = {
    "batch": lambda score, scores: scores / scores.detach().max(),
    "random": lambda score, scores: scores + 1e-3 * torch.rand(len(scores)),
    "gradient": lambda score, scores: scores.detach(),
    "shape": lambda score, scores: scores[:, None],
    "precision": lambda score, scores: scores.float(),
    "finite": lambda score, scores: scores / 0,
    "modes": lambda score, scores: (score.model.eval(), scores)[1],
    "hooks": lambda score, scores: (
        score.model.register_forward_hook(nothing), scores
    )[1],
}  # fmt: skip


class Broken(EmbeddingNorm):
    """Breaks one promise."""

    breach = ""

    def forward(self, *inputs):
        return BREACHES[self.breach](self, super().forward(*inputs))


@pytest.mark.parametrize("breach", BREACHES)
def test_the_contract_bites(monkeypatch, breach):
    monkeypatch.setattr(Broken, "breach", breach)

    def run():
        for check in CHECKS:
            check("embedding-norm", Broken)

    with pytest.raises(AssertionError):
        run()


def test_a_name_that_is_none():
    with pytest.raises(ValueError, match="no score 'fiqa'; there are serfiq, "):
        make_score("fiqa", torch.nn.Identity())
