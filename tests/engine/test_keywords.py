"""An option that a function does not take is refused with the function's name, a near one, and all that it takes."""

from __future__ import annotations

import inspect

import pytest
import torch

from ncafast import NCA, models, rollout, settle
from ncafast.viz.watch import watch

NCA_ = NCA(6, 8, zero_init=False)
X = torch.rand(2, 6, 7, 5)
MODELS = {
    "MaxNCA": (lambda: models.MaxNCA(6, hidden_size=8), (2, 7, 5, 6)),
    "BasicNCA3D": (lambda: models.BasicNCA3D(6, 0.5, hidden_size=8), (2, 5, 4, 6, 6)),
    "GrowingNCA": (lambda: models.GrowingNCA(6, 0.5, hidden_size=8), (2, 7, 5, 6)),
    "NCA2D": (lambda: models.NCA2D(6, 8, 3), (2, 6, 7, 5)),
    "SelfClassifyingNCA": (models.SelfClassifyingNCA, (2, 7, 5, 20)),
    "TextureNCA": (lambda: models.TextureNCA(6, 8), (2, 6, 7, 5)),
    "MedNCA": (lambda: models.MedNCA(channels=6, hidden=8, steps=(1, 1)), (2, 1, 9, 8)),
    "M3DNCA": (lambda: models.M3DNCA(), (1, 16, 16, 16, 1)),
    "BasicNCA": (lambda: models.BasicNCA(6, 0.5, hidden_size=8), (2, 7, 5, 6)),
    "BackboneNCA": (lambda: models.BackboneNCA(6, 0.5, hidden_size=8), (2, 7, 5, 6)),
    "WBCMaxNCA": (lambda: models.WBCMaxNCA(6, hidden_size=8, device="cpu"), (2, 7, 5, 6)),
    "BasicNCA2DFast": (lambda: models.BasicNCA2DFast(6, 0.5, hidden_size=8), (2, 7, 5, 6)),
    "BasicNCA3DFast": (lambda: models.BasicNCA3DFast(6, 0.5, hidden_size=8), (2, 5, 4, 6, 6)),
    "OctreeNCA": (lambda: models.OctreeNCA([((8, 8), 1), ((4, 4), 1)], 6, hidden_size=8), (2, 1, 8, 8)),
    "VanillaNCA": (lambda: models.VanillaNCA(6, 8), (2, 6, 7, 5)),
    "NoiseNCA": (lambda: models.NoiseNCA(6, 8), (2, 6, 7, 5)),
    "PENCA": (lambda: models.PENCA(6, 8), (2, 6, 7, 5)),
    "Cells2PixelsNCA": (lambda: models.Cells2PixelsNCA(6, 8), (2, 6, 7, 5)),
    "CascadeNCA": (lambda: models.CascadeNCA(NCA(6, 8, immutable=3)), (2, 3, 9, 8)),
    "DyNCA": (lambda: models.DyNCA(6, 3, 8), (2, 6, 7, 5)),
}


def refused(call, *arguments, **options):
    with pytest.raises(TypeError) as error:
        call(*arguments, **options)
    return str(error.value)


@pytest.mark.parametrize(
    ("call", "option", "near"),
    [
        (lambda **o: rollout(X, NCA_.rule, NCA_.params(), 1, **o), "sed", "seed"),
        (lambda **o: NCA_(X, **o), "step", "steps"),
        (lambda **o: settle(X, NCA_.rule, NCA_.params(), **o), "maxsteps", "max_steps"),
        (lambda **o: next(watch(NCA_, X, frames=2, **o)), "exta", "extra"),
        (lambda **o: NCA(6, 8, **o), "filter", "filters"),
        (lambda **o: NCA(6, 8, **o), "stepsize", "step_size"),
    ],
)
def test_a_near_option_is_offered(call, option, near):
    assert f"has no option {option!r} (did you mean {near!r}?); known are " in refused(call, **{option: 3})


@pytest.mark.parametrize("name", MODELS)
def test_every_model_names_itself_and_what_its_forward_takes(name):
    make, shape = MODELS[name]
    model = make()
    steps = () if name in ("MedNCA", "M3DNCA", "OctreeNCA") else (1,)
    said = refused(model, torch.rand(shape), *steps, foo=1)
    assert said.startswith(f"{name} has no option 'foo'; known are ")
    known = said.split("known are ")[1].split(", ")
    own = [p.name for p in inspect.signature(model.forward).parameters.values() if p.kind is not p.VAR_KEYWORD][1:]
    assert known[: len(own)] == own and {"first_sample", "backend"} <= set(known)


def test_every_model_is_here():
    assert set(MODELS) == {name for name in models.__all__ if inspect.isclass(getattr(models, name))}


@pytest.mark.parametrize("option", ["steps", "states"])
def test_what_a_function_sets_itself_is_no_option_of_it(option):
    assert f"settle has no option {option!r}" in refused(settle, X, NCA_.rule, NCA_.params(), **{option: 1})
    assert f"watch has no option {option!r}" in refused(watch, NCA_, X, frames=1, **{option: 1})


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: settle(None, NCA_.rule, NCA_.params()), "x must be a torch.Tensor, got NoneType"),
        (lambda: settle(X, None, {}), "rule must be an ncafast.Rule, got NoneType"),
        (lambda: settle(X, NCA_.rule, NCA_.params(), channels=3), "channels must be a slice, such as slice(1, 2)"),
        (lambda: watch(None, X, frames=1), "model must be an NCA or a model of ncafast.models, got NoneType"),
    ],
)
def test_a_wrong_kind_of_argument_is_named(call, said):
    assert said in refused(call)


def test_a_compiled_call_takes_known_options():
    compiled = torch.compile(lambda x: NCA_(x, 2, seed=3, memory="sqrt"), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(X), NCA_(X, 2, seed=3))
