"""What finetune() freezes, and what an optimiser step then changes."""

from __future__ import annotations

import pytest
import torch

import ncafast
from ncafast.heads import Classifier, MaxPoolHead
from ncafast.models import M3DNCA, MedNCA


@pytest.mark.parametrize(
    ("freeze", "trained"),
    [
        (None, {"head.classifier.2.weight", "head.classifier.2.bias"}),
        ("nca", {f"head.classifier.{n}.{kind}" for n in (0, 2) for kind in ("weight", "bias")}),
        (["nca.hidden", "head", "nca.perceive", "nca.norm"], {"nca.update.weight"}),
    ],
)
def test_a_step_changes_what_is_left_to_train(freeze, trained):
    torch.manual_seed(0)
    model = Classifier(ncafast.NCA(4, 8, filters="learned", norm="running", zero_init=False), MaxPoolHead(4, 3))
    assert set(ncafast.finetune(model, freeze)) == trained
    assert ncafast.num_trainable_parameters(model) == sum(model.get_parameter(name).numel() for name in trained)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimiser = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=1.0)
    model(torch.randn(2, 4, 5, 5), 4, seed=0).square().sum().backward()
    optimiser.step()
    assert {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])} == trained


def test_of_an_automaton_the_last_layer_is_left():
    nca = ncafast.NCA(4, 8)
    assert ncafast.num_trainable_parameters(nca) == 4 * 3 * 8 + 8 + 8 * 4
    assert ncafast.finetune(nca.eval()) == ["update.weight"] and nca.training
    assert ncafast.num_trainable_parameters(nca) == 8 * 4
    assert len(ncafast.finetune(nca, [])) == 3
    cascade = M3DNCA(6, hidden_size=8)  # other layers are registered behind this one
    assert ncafast.finetune(cascade) == ["model.1.fc1.weight"]


def test_wrong_names_are_listed():
    with pytest.raises(ValueError, match="freeze='model3' is no part of this MedNCA; it has model1"):
        ncafast.finetune(MedNCA(), ["model1", "model3"])
    with pytest.raises(ValueError, match="leaves nothing to train"):
        ncafast.finetune(ncafast.NCA(4, 8), ["hidden", "update"])
