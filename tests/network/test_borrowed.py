"""Copies of a network for one call: what they share, what they do not, what is found in them."""

import collections
import copy
import dataclasses
import functools
import types
import weakref

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from captum_plq import SERFIQ
from captum_plq.functional import quality_from_embeddings
from captum_plq.network.borrowed import borrowed, hookable, original_of, own_copy
from captum_plq.network.embedding_layer import EmbeddingLayerError
from captum_plq.network.forward_function import as_module
from tests.conftest import assert_untouched, in_mixed_state, snapshot

X = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Reaches its modules in the ways that networks do."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(144, 8))
        self.shared = nn.Linear(8, 8)
        self.again = self.shared
        self.steps = [self.conv, (self.bn, {"relu": nn.functional.relu})]
        self.embed = self.last
        self.tail = functools.partial(lambda net, x: net.shared(x), self)

    def last(self, x):
        return self.again(self.tail(self.head(x)))

    def forward(self, x):
        for step in (self.steps[0], self.steps[1][0], self.steps[1][1]["relu"]):
            x = step(x)
        return self.embed(x)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net().train()


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 8))


@pytest.mark.parametrize("frozen", [False, True])
def test_a_copy_computes_the_same_and_leaves_the_network_as_it_was(net, frozen):
    before = snapshot(net)
    copied, x = borrowed(net, frozen=frozen), X.clone().requires_grad_()
    assert not any(module.training for module in copied.modules())
    y = copied(x)
    y.sum().backward()
    assert x.grad.abs().sum() > 0
    assert all((p.grad is None) is frozen for p in net.parameters())
    net.zero_grad(set_to_none=True)
    assert_untouched(before, net)
    assert torch.equal(y, net.eval()(X))
    for a, b in zip(net.parameters(), copied.parameters(), strict=True):
        assert a.data_ptr() == b.data_ptr()
    assert [n for n, _ in copied.named_modules()] == [n for n, _ in net.named_modules()]
    assert copied.shared is copied.again
    assert own_copy(copied) is copied
    assert original_of(copied.head[2]) is net.head[2]


def test_a_hook_on_a_copy_is_met_by_that_copy_alone(net):
    seen = []
    net.conv.register_forward_hook(lambda *_: seen.append("own"))
    copied, other = borrowed(net), borrowed(net)
    for name in ("conv", "bn", "shared", "head.2"):
        hookable(copied.get_submodule(name)).register_forward_hook(
            lambda *_, name=name: seen.append(name)
        )
    copied(X)
    assert seen == ["own", "conv", "bn", "head.2", "shared", "shared"]
    seen.clear()
    net(X)
    other(X)
    assert seen == ["own", "own"]
    assert len(net.conv._forward_hooks) == 1


def test_compiled_modules_and_graphs_are_run_as_they_were_written(net):
    net.head = torch.compile(net.head, backend="eager")
    net.conv.compile(backend="eager")
    copied, seen = borrowed(net), []
    hookable(copied.head._orig_mod[2]).register_forward_hook(lambda *_: seen.append(1))
    hookable(copied.conv).register_forward_hook(lambda *_: seen.append(0))
    assert torch.equal(copied(X), net.eval()(X))
    assert len(copied.head) == 3
    graph = torch.fx.symbolic_trace(small())
    copied = borrowed(graph)
    hookable(copied.get_submodule("0")).register_forward_hook(lambda *_: seen.append(2))
    assert torch.equal(copied(X), graph(X))
    assert seen == [0, 1, 2]


@dataclasses.dataclass
class Held:
    face: nn.Module


NET = small().eval()


def functions():
    local = NET
    return {
        "method": NET.forward,
        "global": lambda x: NET(x),
        "closure": lambda x: local(x),
        "default": lambda x, network=local: network(x),
        "keyword default": lambda x, *, network=local: network(x),
        "partial": functools.partial(lambda a, b: a(b), NET),
        "partial by keyword": functools.partial(lambda x, net: net(x), net=NET),
        "inner": lambda x: (lambda: NET(x))(),
        "object's method": types.MethodType(lambda own, x: own.face(x), Held(NET)),
    }


@pytest.mark.parametrize("kind", functions())
def test_the_network_of_a_function_is_found_and_hooked(kind):
    before, model = snapshot(NET), as_module(functions()[kind])
    assert list(model.networks) == [NET]
    assert torch.equal(SERFIQ(functions()[kind])(X), SERFIQ(NET)(X))
    assert torch.equal(model(X), NET(X))
    own = copy.deepcopy(model)
    nn.init.zeros_(own.networks[0][3].weight)
    assert not torch.equal(own(X), model(X))
    assert torch.equal(model(X), NET(X))
    assert_untouched(before, NET)


@pytest.mark.parametrize("wrong", [torch.relu, lambda x: x, "net", None])
def test_a_function_without_a_network_is_refused(wrong):
    with pytest.raises(TypeError, match=r"nn\.Module"):
        SERFIQ(wrong)


class Keeps(nn.Module):
    """Keeps a map by a hook: its own method, or a closure over it."""

    def __init__(self, by_method):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4 + 4, 8)
        self.conv.register_forward_hook(
            self.keep if by_method else lambda *args: setattr(self, "mid", args[-1])
        )

    def keep(self, module, args, output):
        self.mid = output

    def forward(self, x):
        pooled = self.conv(x).relu().mean((2, 3))
        return self.fc(torch.cat([pooled, self.mid.mean((2, 3))], 1))


@pytest.mark.parametrize("by_method", [True, False])
def test_what_a_network_keeps_by_a_hook_is_that_of_the_image(by_method):
    net, other = Keeps(by_method).eval(), torch.rand(2, 3, 8, 8)
    serfiq, mid = SERFIQ(net), net.conv(X)
    features = torch.cat([mid.relu().mean((2, 3)), mid.mean((2, 3))], 1)
    kept = serfiq.masks.for_features(features.shape[1:], features.device)
    expected = quality_from_embeddings(net.fc(features.unsqueeze(1) * kept * serfiq.masks.scale))
    for _ in range(2):
        torch.testing.assert_close(serfiq(X), expected)
        net(other)  # leaves another image's map behind


def test_what_a_hook_keeps_out_of_sight_is_refused():
    kept = {}

    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = small()
            self.net[0].register_forward_hook(lambda m, i, o: kept.update({id(m): o}))

        def forward(self, x):
            y = self.net(x)
            return y + kept.pop(id(self.net[0]), torch.zeros(1)).mean()

    with pytest.raises(EmbeddingLayerError, match="another embedding than a copy"):
        SERFIQ(Hidden().eval())(X)


def test_a_user_s_hook_is_called_with_the_user_s_module():
    net = small().eval()
    for hook in (
        lambda m, i, o: o * 0.2 + o.square() if m is net[0] else o,
        lambda m, i, o, scale={net[0]: 0.2}: o * scale.get(m, 1.0) + o.square(),
    ):
        with net[0].register_forward_hook(hook):
            torch.testing.assert_close(SERFIQ(net).assess(X).embedding, net(X))


@pytest.mark.filterwarnings("ignore:No closed form", "ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("estimator", ["sampling", "closed-form"])
@pytest.mark.parametrize(
    "wrap",
    [
        nn.utils.weight_norm,
        nn.utils.spectral_norm,
        lambda layer: prune.random_unstructured(layer, "weight", 0.5),
        nn.utils.parametrizations.weight_norm,
    ],
    ids=["weight_norm", "spectral_norm", "prune", "parametrized"],
)
def test_a_weight_that_is_computed_is_that_of_now(wrap, estimator):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 300), nn.ReLU(), nn.Linear(300, 64)).eval()
    wrap(net[3])
    before, serfiq = snapshot(in_mixed_state(net)), SERFIQ(net, estimator=estimator)
    first = serfiq(X)
    assert_untouched(before, net)
    for name, parameter in net[3].named_parameters():
        if "weight" in name and "mask" not in name:
            parameter.data *= torch.linspace(0.2, 3, len(parameter)).unsqueeze(1)
    after = serfiq(X)
    net.eval()(X)
    assert torch.equal(after, SERFIQ(net, estimator=estimator)(X))
    assert not torch.allclose(after, first, rtol=1e-4)


Named = collections.namedtuple("Named", ["face"])
HOLDERS = {
    "defaultdict": (lambda m: collections.defaultdict(list, face=m), lambda held: held["face"]),
    "SimpleNamespace": (lambda m: types.SimpleNamespace(face=m), lambda held: held.face),
    "dataclass": (Held, lambda held: held.face),
    "namedtuple": (Named, lambda held: held.face),
    "deque": (lambda m: collections.deque([m]), lambda held: held[0]),
    "set": (lambda m: {m}, lambda held: next(iter(held))),
    "nested": (lambda m: [[[[m]]]], lambda held: held[0][0][0][0]),
}


@pytest.mark.parametrize("kind", HOLDERS)
def test_a_layer_behind_a_holder_is_found(kind):
    hold, take = HOLDERS[kind]

    class Holding(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten())
            self.proj = nn.Linear(144, 8)
            self.heads = hold(self.proj)
            self.__dict__["runner"] = nn.Sequential(self.body)  # registered nowhere

        def forward(self, x):
            return take(self.heads)(self.runner(x))

    net = in_mixed_state(Holding())
    before, serfiq = snapshot(net), SERFIQ(net)
    assert serfiq.prepare(X) == "proj"
    assert serfiq(X).std() > 0
    assert_untouched(before, net)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("hidden", ["body", "fc", "tail"])
def test_what_is_hidden_may_stand_in_front_of_the_layer_but_not_behind_it(hidden, training):
    class Hiding(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.body, self.fc, self.tail = nn.Flatten(), nn.Linear(192, 8), nn.BatchNorm1d(8)
            self.steps = [weakref.ref(m) if n == hidden else m for n, m in self.named_children()]

        def forward(self, x):
            for step in self.steps:
                x = step()(x) if isinstance(step, weakref.ref) else step(x)
            return x

    net = Hiding().train(training)
    before, serfiq = snapshot(net), SERFIQ(net)
    if hidden == "body" and not training:
        assert serfiq.prepare(X) == "fc"
    else:
        with pytest.raises(EmbeddingLayerError, match=f"'{hidden}' is run by something"):
            serfiq.prepare(X)
    assert_untouched(before, net)


def test_a_hook_that_comes_to_the_embedding_layer_is_noticed():
    net = small().eval()
    serfiq = SERFIQ(net)
    expected = serfiq(X)
    handle = net[3].register_forward_hook(lambda m, i, o: 3 * o + 1)
    with handle, pytest.raises(EmbeddingLayerError, match="hook of yours"):
        serfiq(X)
    assert torch.equal(serfiq(X), expected)
