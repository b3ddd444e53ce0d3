"""Copies of a network for one call: what they share, what they do not, what is found in them."""

import collections
import dataclasses
import functools
import threading
import types
import weakref

import pytest
import torch
from torch import nn

from captum_plq import SERFIQ
from captum_plq.functional import quality_from_embeddings
from captum_plq.network.borrowed import borrowed, hooked, original_of, own_copy
from captum_plq.network.embedding_layer import EmbeddingLayerError
from captum_plq.network.forward_function import as_module
from captum_plq.network.rebinding import modules_behind
from tests.conftest import assert_untouched, snapshot


class Net(nn.Module):
    """Reaches its modules in the ways that networks do."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(144, 8))
        self.shared = nn.Linear(8, 8)
        self.again = self.shared
        self.again.bias = self.shared.bias
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


X = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("frozen", [False, True])
def test_a_copy_computes_the_same_and_leaves_the_network_as_it_was(net, frozen):
    before = snapshot(net)
    copy = borrowed(net, frozen=frozen)
    assert not any(module.training for module in copy.modules())
    y = copy(X)
    assert y.requires_grad is not frozen
    assert_untouched(before, net)
    assert torch.equal(y, net.eval()(X))
    for a, b in zip(net.parameters(), copy.parameters(), strict=True):
        assert a.data_ptr() == b.data_ptr()
    assert [n for n, _ in copy.named_modules()] == [n for n, _ in net.named_modules()]
    assert copy.shared is copy.again
    assert own_copy(copy) is copy
    assert original_of(copy.head[2]) is net.head[2]


def test_a_hook_on_a_copy_is_met_by_that_copy_alone(net):
    seen = []
    net.conv.register_forward_hook(lambda *_: seen.append("own"))
    copy, other = borrowed(net), borrowed(net)
    for name in ("conv", "bn", "shared", "head.2"):
        hooked(copy.get_submodule(name), lambda *_, name=name: seen.append(name))
    copy(X)
    assert seen == ["own", "conv", "bn", "head.2", "shared", "shared"]
    seen.clear()
    net(X)
    other(X)
    assert seen == ["own", "own"]
    assert len(net.conv._forward_hooks) == 1


def test_a_frozen_copy_still_lets_gradients_through_to_the_images(net):
    x = X.clone().requires_grad_()
    borrowed(net, frozen=True)(x).sum().backward()
    assert x.grad.abs().sum() > 0
    assert all(p.grad is None for p in net.parameters())


def test_a_compiled_module_is_run_as_it_was_written(net):
    net.head = torch.compile(net.head, backend="eager")
    net.conv.compile(backend="eager")
    copy, seen = borrowed(net), []
    hooked(copy.head._orig_mod[2], lambda *_: seen.append(1))
    assert torch.equal(copy(X), net.eval()(X))
    assert seen == [1]
    assert len(copy.head) == 3


def test_a_graph_module():
    net = torch.fx.symbolic_trace(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()))
    copy, seen = borrowed(net), []
    hooked(copy.get_submodule("0"), lambda *_: seen.append(1))
    assert torch.equal(copy(X), net(X))
    assert seen == [1]


# --- functions around a network ------------------------------------------------------------

NET = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))


class Service:
    def __init__(self, network):
        self.network = network

    def embed(self, x):
        return self.network(x)


def functions():
    local = NET
    yield "method", NET.forward
    yield "global", lambda x: NET(x)
    yield "closure", lambda x: local(x)
    yield "default", lambda x, network=local: network(x)
    yield "partial", functools.partial(lambda a, b: a(b), NET)
    yield "inner", lambda x: (lambda: NET(x))()
    yield "object's method", Service(NET).embed


@pytest.mark.parametrize(("kind", "function"), list(functions()), ids=[k for k, _ in functions()])
def test_the_network_of_a_function_is_found_and_hooked(kind, function):
    assert modules_behind(function) == [NET]
    model, seen = as_module(function), []
    copy = borrowed(model)
    hooked(copy.networks[0][1], lambda *_: seen.append(1))
    assert torch.equal(copy(X), NET(X))
    assert seen == [1]
    assert torch.equal(model(X), NET(X))
    assert seen == [1]


def test_a_deep_copy_of_a_function_has_a_network_of_its_own():
    import copy

    own = copy.deepcopy(as_module(lambda x: NET(x)))
    nn.init.zeros_(own.networks[0][1].weight)
    assert not torch.equal(own(X), NET(X))


@pytest.mark.parametrize("wrong", [torch.relu, lambda x: x, "net", None, len])
def test_a_function_without_a_network_is_refused(wrong):
    with pytest.raises(TypeError, match=r"nn\.Module"):
        as_module(wrong)


def test_copies_in_threads_do_not_meet(net):
    wrong = []

    def work(tag):
        for _ in range(50):
            copy = borrowed(net)
            hooked(copy.shared, lambda *_: torch.full((2, 8), float(tag)))
            if not (copy.shared(torch.ones(2, 8)) == tag).all():
                wrong.append(tag)

    threads = [threading.Thread(target=work, args=(tag,)) for tag in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# --- what networks and their users do with hooks and attributes ----------------------------


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4 + 4, 8)

    def pooled(self, x):
        return self.conv(x).relu().mean((2, 3))

    def forward(self, x):
        return self.fc(torch.cat([self.pooled(x), self.mid.mean((2, 3))], 1))


class KeepsByMethod(Base):
    def __init__(self):
        super().__init__()
        self.conv.register_forward_hook(self.keep)

    def keep(self, module, args, output):
        self.mid = output


class KeepsByClosure(Base):
    def __init__(self):
        super().__init__()
        self.conv.register_forward_hook(lambda m, i, o: setattr(self, "mid", o))


def written_out(net, x):
    """SER-FIQ's quality with the seed's masks, from the features in front of the last layer."""
    serfiq, mid = SERFIQ(net), net.conv(x)
    features = torch.cat([mid.relu().mean((2, 3)), mid.mean((2, 3))], 1)
    kept = serfiq.masks.for_features(features.shape[1:], features.device)
    rows = net.fc(features.unsqueeze(1) * kept * serfiq.masks.scale)
    return quality_from_embeddings(rows)


@pytest.mark.parametrize("kind", [KeepsByMethod, KeepsByClosure])
def test_what_a_network_keeps_by_a_hook_is_that_of_the_image(kind):
    net, other = kind().eval(), torch.rand(2, 3, 8, 8)
    serfiq = SERFIQ(net)
    for _ in range(2):
        torch.testing.assert_close(serfiq(X), written_out(net, X))
        net(other)  # leaves another image's map behind


def test_a_user_s_hook_is_called_with_the_user_s_module():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 8)).eval()
    for hook in (
        lambda m, i, o: o * 0.2 + o.square() if m is net[0] else o,
        lambda m, i, o, scale={net[0]: 0.2}: o * scale.get(m, 1.0) + o.square(),
    ):
        handle = net[0].register_forward_hook(hook)
        plain = torch.nn.functional.normalize(net(X), dim=1)
        clean = torch.nn.functional.normalize(SERFIQ(net).assess(X).embedding, dim=1)
        torch.testing.assert_close(clean, plain)
        handle.remove()


@dataclasses.dataclass
class Held:
    face: nn.Module


Named = collections.namedtuple("Named", ["face"])
HOLDERS = {
    "OrderedDict": lambda m: collections.OrderedDict(face=m),
    "defaultdict": lambda m: collections.defaultdict(list, face=m),
    "SimpleNamespace": lambda m: types.SimpleNamespace(face=m),
    "dataclass": Held,
    "namedtuple": Named,
    "deque": lambda m: collections.deque([m]),
    "set": lambda m: {m},
    "nested": lambda m: [[[[m]]]],
    "weak": weakref.ref,
}


def held(holder):
    if isinstance(holder, weakref.ref):
        return holder()
    if hasattr(holder, "face"):
        return holder.face
    if isinstance(holder, dict):
        return holder["face"]
    while not isinstance(holder, nn.Module):
        holder = next(iter(holder))
    return holder


@pytest.mark.parametrize("kind", HOLDERS)
@pytest.mark.parametrize("training", [False, True])
def test_a_layer_behind_a_holder_is_found_or_refused(kind, training):
    class Holding(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten())
            self.proj = nn.Linear(144, 8)
            self.heads = HOLDERS[kind](self.proj)

        def forward(self, x):
            return held(self.heads)(self.body(x))

    net = Holding().train(training)
    before, serfiq = snapshot(net), SERFIQ(net)
    if kind == "weak":
        with pytest.raises(EmbeddingLayerError, match="'proj'"):
            serfiq(X)
    else:
        serfiq(X)
        assert serfiq.tap.layer_name == "proj"
    assert_untouched(before, net)


def test_slots_and_modules_that_are_registered_nowhere():
    class Slots(nn.Module):
        __slots__ = ("extra",)

        def __init__(self):
            super().__init__()
            self.extra = 2.0
            self.fc = nn.Linear(192, 8)
            self.__dict__["runner"] = nn.Sequential(nn.Flatten(), self.fc)

        def forward(self, x):
            return self.runner(x) * self.extra

    serfiq = SERFIQ(Slots().eval())
    serfiq(X)
    assert serfiq.tap.layer_name == "fc"


def test_a_hook_that_comes_to_the_embedding_layer_is_noticed():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 8)).eval()
    serfiq = SERFIQ(net)
    expected = serfiq(X)
    handle = net[3].register_forward_hook(lambda m, i, o: 3 * o + 1)
    with pytest.raises(EmbeddingLayerError, match="hook of yours"):
        serfiq(X)
    handle.remove()
    assert torch.equal(serfiq(X), expected)


@pytest.mark.filterwarnings("ignore:No closed form")
@pytest.mark.parametrize("change", ["eps", "hook", "forward"])
def test_the_closed_form_ends_with_what_is_no_tensor_too(change):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 32), nn.BatchNorm1d(32)).eval()
    net[2].running_var.uniform_(0.1, 2)
    serfiq = SERFIQ(net, estimator="closed-form", passes=1000)
    before = serfiq(X)
    if change == "eps":
        net[2].eps = 5.0
    elif change == "hook":
        net[2].register_forward_hook(lambda m, i, o: o.clamp(min=0))
    else:
        net[2].forward = lambda x: x.relu()
    torch.testing.assert_close(serfiq(X), SERFIQ(net, passes=1000)(X), rtol=2e-2, atol=0)
    assert not torch.allclose(serfiq(X), before)
