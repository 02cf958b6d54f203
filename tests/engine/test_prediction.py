"""predict(), record() and validate() of models, against the models' own calls."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import mse_loss

import ncafast
from ncafast import Convergence, models
from ncafast.heads import AveragePoolHead, Classifier

LAST = (1, -1)  # channels first -> last, as movedim takes them


def automaton(**options) -> ncafast.NCA:
    torch.manual_seed(0)
    plain = {"immutable": 1, "outputs": 2, "zero_init": False, "steps": 6}
    return ncafast.NCA(8, 12, **(plain | options))


def build(kind: str) -> tuple[torch.nn.Module, Tensor, object, tuple[int, int, int]]:
    """A model, its input with the channels first, steps, and how many image, hidden and output channels it has."""
    torch.manual_seed(1)
    image = torch.rand(2, 1, 18, 21)
    match kind:
        case "growing":
            return models.GrowingNCA(), torch.rand(2, 16, 9, 8), 5, (4, 12, 4)
        case "digits":
            return models.SelfClassifyingNCA(perception_size=8, hidden_layer_sizes=(8,)), image, 5, (1, 9, 10)
        case "texture":
            return models.TextureNCA(6, 8), torch.rand(2, 6, 9, 8), 5, (3, 3, 3)
        case "motion":
            return models.DyNCA(7, 3, 8), torch.rand(2, 7, 9, 8), 5, (3, 4, 3)
        case "classifier":
            return models.MaxNCA(device="cpu", fire_rate=0.3, num_classes=4), torch.rand(2, 3, 9, 8), 5, (3, 13, 0)
        case "med":
            return models.MedNCA(8, 8, classes=2, steps=(4, 3)), image, None, (1, 5, 2)
        case "m3d":
            model = models.M3DNCA(8, hidden_size=8, steps=(3, 2), scale_factor=2, kernel_size=3)
            return model, torch.rand(2, 1, 7, 9, 8), None, (1, 6, 1)
        case "octree":
            return models.OctreeNCA([((8, 6), 2), ((4, 3), 3)], 8), torch.rand(2, 1, 8, 6), None, (1, 6, 1)
    return models.CascadeNCA(automaton(), (4, 2, 1), (4, 3, 2)), image, None, (1, 5, 2)


def called(kind: str, model: torch.nn.Module, x: Tensor, steps: object) -> tuple[Tensor, Tensor]:
    """What the model's own call says: what is read of its state, and what of a prediction that is."""
    if kind == "growing":
        return model(x.movedim(*LAST), steps, seed=7).movedim(-1, 1), slice(0, 16)
    if kind == "digits":
        state = torch.cat((x.new_zeros(2, 19, 18, 21), x), 1)
        return model(state.movedim(*LAST), steps, seed=7).movedim(-1, 1), slice(0, 20)
    if kind == "classifier":
        state = torch.cat((x, x.new_zeros(2, 13, 9, 8)), 1)
        return model(state.movedim(*LAST), steps, None, seed=7)[1].movedim(-1, 1), slice(0, 16)
    if kind == "m3d":
        return model(x.movedim(*LAST), seed=7).movedim(-1, 1), slice(1, 2)
    if kind == "octree":
        return model(x, seed=7)["logits"].movedim(-1, 1), slice(1, 2)
    if kind == "motion":
        return model(x, steps=steps, seed=7)[0], slice(0, 7)
    if kind == "texture":
        return model(x, steps, seed=7), slice(0, 6)
    return model(x, seed=7), slice(1, 3) if kind == "med" else slice(0, 8)


KINDS = ("growing", "digits", "texture", "motion", "classifier", "med", "m3d", "octree", "cascade")


@pytest.mark.parametrize("kind", KINDS)
def test_every_model_predicts_what_its_call_returns(kind: str) -> None:
    model, x, steps, counts = build(kind)
    found = model.train().predict(x, steps, seed=7)
    assert model.training
    with torch.no_grad():
        expected, part = called(kind, model.eval(), x, steps)
    torch.testing.assert_close(found.state[:, part], expected, rtol=0, atol=0)
    parts = found.image_channels, found.hidden_channels, found.output_channels
    assert tuple(each.shape[1] for each in parts) == counts
    assert not found.state.requires_grad
    film = model.record(x, steps, seed=7)
    assert torch.equal(film[-1].state, found.state) and [each.steps for each in film] == [*range(1, found.steps + 1)]
    assert (found.head_prediction is None) == (kind != "classifier")


@pytest.mark.parametrize("kind", KINDS)
def test_until_never_is_a_run_of_all_steps(kind: str) -> None:
    model, x, steps, _ = build(kind)
    never = Convergence(tolerance=0.0, min_steps=99)
    found, all_steps = model.predict(x, steps, seed=7, until=never), model.predict(x, steps, seed=7)
    torch.testing.assert_close(found.state, all_steps.state)
    assert torch.equal(found.level_steps, all_steps.level_steps) and not found.converged.any()


def test_each_sample_stops_by_itself_as_settle_says() -> None:
    nca = ncafast.NCA(8, 8, immutable=1, outputs=2, activation="identity", time_code="linear", max_steps=20)
    with torch.no_grad():  # draws the state to 0, with a push that grows
        nca.hidden.weight.zero_()[:, :8] = torch.eye(8)
        nca.hidden.weight[:, -1] = -0.1 * torch.arange(8)
        nca.update.weight.copy_(-0.3 * torch.eye(8)[1:])
    x = torch.rand(4, 8, 6, 7) * torch.tensor([0.1, 1.0, 3.0, 9.0]).view(4, 1, 1, 1)
    until = Convergence(tolerance=0.06, plateau=2, min_steps=1)
    found = nca.predict(x, 20, seed=3, until=until)
    options = {"tolerance": 0.06, "plateau": 2, "min_steps": 1, "max_steps": 20, "channels": slice(1, 6), "seed": 3}
    code = ncafast.time_code.TimeCode("linear", 20)
    expected = ncafast.settle(
        x, nca.rule, nca.params(), per_sample=True, extra=lambda at, n: code.of(x, at, n), **options
    )
    assert len(set(expected.steps.tolist())) > 1 and expected.converged.any()
    assert torch.equal(found.state, expected.state)
    assert found.level_steps[:, 0].tolist() == expected.steps.tolist()
    assert found.converged[:, 0].tolist() == expected.converged.tolist()
    assert found.steps == max(expected.steps.tolist())
    watched = nca.predict(x, 20, seed=3, until=Convergence(0.06, 2, 1, slice(6, 8)))
    assert watched.level_steps.tolist() != found.level_steps.tolist()


def test_a_level_of_a_cascade_goes_on_from_where_the_one_before_stopped() -> None:
    cascade = models.CascadeNCA(automaton(), (2, 1), (12, 9))
    x, until = torch.rand(1, 1, 8, 6), Convergence(tolerance=1e9, plateau=3)
    found = cascade.predict(x, seed=5, until=until)
    assert found.level_steps.tolist() == [[3, 3]] and found.converged.all()
    coarse = cascade.predict(x, (3, 0), seed=5)  # masks of the second level are those after 12 steps
    expected = cascade.levels[0](coarse.state, 3, seed=5, first_step=12)
    assert torch.equal(found.state, expected)


def test_samples_that_share_statistics_stop_together() -> None:
    nca = automaton(norm="batch")
    found = nca.predict(torch.rand(3, 1, 6, 7), 9, seed=1, until=Convergence(1e9, plateau=4))
    assert found.level_steps.tolist() == [[4]] * 3 and found.converged.tolist() == [[True]] * 3


def test_recorded_levels_have_their_own_grids_and_every_so_many_steps() -> None:
    cascade = models.CascadeNCA(automaton(), (4, 2, 1), (5, 3, 2))
    film = cascade.record(torch.rand(2, 1, 9, 14), every=2, seed=1)
    assert [(each.steps, tuple(each.state.shape[2:])) for each in film] == [
        (2, (2, 3)),
        (4, (2, 3)),
        (7, (4, 7)),
        (10, (9, 14)),
    ]
    assert film[2].level_steps.tolist() == [[5, 2, 0]] * 2


def test_arrays_are_views_that_are_fetched_once(monkeypatch) -> None:
    found = automaton().predict(torch.rand(2, 1, 6, 7), seed=1)
    fetched, cpu = [], Tensor.cpu
    monkeypatch.setattr(Tensor, "cpu", lambda self: fetched.append(self.shape) or cpu(self))
    parts = {"image": found.image_channels, "hidden": found.hidden_channels, "output": found.output_channels}
    for name, part in parts.items():
        array = getattr(found, f"{name}_channels_np")
        assert np.array_equal(array, part.numpy()) and array.base is not None
    assert found.state_np is found.state_np and len(fetched) == 1
    assert found.head_prediction_np is None
    half = automaton().bfloat16().predict(torch.rand(2, 1, 6, 7).bfloat16(), seed=1)
    assert half.state_np.dtype == np.float32 and half.state.dtype == torch.bfloat16


def test_the_head_reads_every_state() -> None:
    model = Classifier(automaton(), AveragePoolHead(8, 4, first=1))
    x = torch.rand(3, 1, 6, 7)
    found, film = model.predict(x, seed=2), model.record(x, seed=2)
    assert torch.equal(found.head_prediction, model(x, seed=2))
    assert torch.equal(film[2].head_prediction, model.head(film[2].state)) and len(film) == 6
    assert np.array_equal(found.head_prediction_np, found.head_prediction.detach().numpy())


def test_steps_and_noise_are_those_of_the_call() -> None:
    nca = automaton(steps=(3, 9), eval_steps=(2, 5), pad_noise=True)
    for seed in range(4):
        x = torch.rand(2, 1, 5, 6)
        found = nca.train().predict(x, seed=seed)
        assert torch.equal(found.state, nca.eval()(x, seed=seed)) and 2 <= found.steps <= 5
        assert nca.predict(x, (7, 7), seed=seed).steps == 7
    assert nca.predict(x, until=Convergence(0.0, min_steps=9)).steps == 5  # the most
    loaded = ncafast.NCA.from_config(**nca.config())
    assert loaded.predict(x).output_channels.shape[1] == 2


def test_validation_is_the_mean_over_samples_however_they_are_divided() -> None:
    nca, images, masks = automaton(), torch.rand(5, 1, 6, 7), torch.rand(5, 2, 6, 7)
    metrics = {
        "mse": lambda found, mask: mse_loss(found.output_channels, mask),
        "each": lambda found, mask: (found.output_channels - mask).square().flatten(1).mean(1),
    }
    whole = nca.predict(images, seed=4).output_channels
    for sizes in ([5], [2, 3], [1, 0, 4]):
        batches = list(zip(images.split(sizes), masks.split(sizes), strict=True))
        found, predictions = nca.validate([b for b in batches if len(b[0])], metrics, seed=4)
        assert found == pytest.approx(dict.fromkeys(metrics, float(mse_loss(whole, masks))))
        assert torch.equal(torch.cat([each.output_channels for each in predictions]), whole)


def test_no_samples_are_no_prediction_of_any() -> None:
    for until in (None, Convergence()):
        for model in (automaton(), automaton(norm="batch"), models.CascadeNCA(automaton(), (2, 1), (3, 2))):
            found = model.predict(torch.rand(0, 1, 6, 8), until=until)
            assert found.state.shape == (0, 8, 6, 8) and found.steps == 0


def test_nan_does_not_converge_and_stays_in_its_sample() -> None:
    x = torch.rand(3, 1, 6, 7)
    x[1] = float("nan")
    found = automaton().predict(x, 40, seed=1, until=Convergence(1e9))
    assert found.converged[:, 0].tolist() == [True, False, True] and found.level_steps[1, 0] == 1
    assert found.state[[0, 2]].isfinite().all() and found.state[1].isnan().any()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: automaton().predict(torch.rand(2, 3, 6, 7)), ValueError, r"takes images \[B, 1, H, W\] or states"),
        (lambda: automaton().predict(torch.rand(2, 6, 7, 8)), ValueError, "channels come second here"),
        (lambda: automaton().predict(torch.rand(1, 6, 7)), ValueError, r"got shape \[1, 6, 7\]"),
        (lambda: automaton().predict(torch.ones(2, 1, 6, 7, dtype=torch.uint8)), TypeError, "uint8"),
        (lambda: automaton().predict(torch.rand(2, 1, 6, 7).double()), (TypeError, ValueError), "float64"),
        (lambda: automaton().predict(np.ones((2, 1, 6, 7))), TypeError, "torch.Tensor"),
        (lambda: automaton().predict(torch.rand(2, 1, 6, 7), until=0.01), TypeError, "ncafast.Convergence"),
        (lambda: automaton().predict(torch.rand(2, 1, 6, 7), step=3), TypeError, "step"),
        (lambda: automaton().record(torch.rand(2, 1, 6, 7), states="all"), TypeError, "states"),
        (lambda: automaton().record(torch.rand(2, 1, 6, 7), every=0), ValueError, "every"),
        (lambda: models.GrowingNCA().predict(torch.rand(1, 16, 6, 7)), TypeError, "steps= is needed"),
        (lambda: models.GrowingNCA().predict(torch.rand(1, 4, 6, 7), 3), ValueError, r"takes states \[B, 16, H, W\]"),
        (lambda: models.DyNCA(7, 3).predict(torch.rand(1, 7, 6, 7), 3, extra=torch.rand(1)), TypeError, "positions"),
        (lambda: build("med")[0].predict(torch.rand(1, 2, 9, 9)), ValueError, "image_channels=1"),
        (lambda: build("m3d")[0].predict(torch.rand(1, 7, 9, 8, 1)), ValueError, r"\[B, 1, X, Y, Z\]"),
        (lambda: build("octree")[0].predict(torch.rand(1, 1, 8, 6), (2,)), ValueError, "there are 2 levels"),
        (lambda: Classifier(torch.nn.Identity(), torch.nn.Flatten()).predict(torch.rand(1, 2)), TypeError, "Identity"),
        (lambda: automaton().validate([torch.rand(2, 1, 6, 7)], {}), TypeError, "pairs"),
        (lambda: automaton().validate([], {}), ValueError, "no samples"),
        (lambda: automaton().validate([], [mse_loss]), TypeError, "functions by name"),
        (lambda: automaton(outputs=8), ValueError, "outputs=8"),
        (lambda: Convergence(tolerance=-1), ValueError, "tolerance"),
        (lambda: Convergence(plateau=0), ValueError, "plateau"),
        (lambda: Convergence(channels=3), TypeError, "slice"),
    ],
)
def test_mistakes_are_named(call, error, message) -> None:
    with pytest.raises(error, match=message):
        call()


def test_what_a_call_does_besides_is_not_left_out() -> None:
    class Own(models.MedNCA):
        def forward(self, image, **options):
            return image

    hooked = automaton()
    hooked.register_forward_hook(lambda *_: None)
    for model, said in ((Own(8, 8), "this Own has a forward of its own"), (hooked, "this NCA has forward hooks")):
        for method in (model.predict, model.record):
            with pytest.raises(ValueError, match=said):
                method(torch.rand(1, 1, 9, 9))
    cascade = models.CascadeNCA(models.NCA2D(6, 8, 3), (2, 1), (1, 1))
    cascade.levels[0].register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match="levels.0 has a forward hook"):
        cascade.predict(torch.rand(1, 1, 9, 9))


@pytest.mark.parametrize("value", [torch.rand(3), "good", None])
def test_a_metric_that_is_no_number_is_named(value) -> None:
    batches = [(torch.rand(2, 1, 6, 7), None)]
    with pytest.raises((TypeError, ValueError), match=r"metrics\['mine'\] returned"):
        automaton().validate(batches, {"mine": lambda found, target: value})
