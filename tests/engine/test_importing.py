"""`ncafast import`: weights as authors save them become model files; everything else is refused in words that help."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import published_variants as originals
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import ncafast
from ncafast import cli, identify, models
from ncafast.importing import import_weights

OCTREE = [[[8, 8], 2], [[4, 4], 3]]
# Models by name: how to build one unlike the defaults, whether its keys alone identify it, what must be said.
MODELS = {
    "BackboneNCA": (lambda: models.BackboneNCA(6, 0.5, hidden_size=9, kernel_size=5, batch_norm=True), True, {}),
    "BasicNCA": (lambda: models.BasicNCA(6, 0.5, hidden_size=9), False, {}),
    "BasicNCA2DFast": (lambda: models.BasicNCA2DFast(6, 0.5, None, 9, 2, kernel_size=5), True, {}),
    "BasicNCA3D": (lambda: models.BasicNCA3D(6, 0.5, hidden_size=9, kernel_size=3), True, {}),
    "BasicNCA3DFast": (lambda: models.BasicNCA3DFast(6, 0.5, None, 9, 2, normalization="none"), True, {}),
    "Cells2PixelsNCA": (lambda: models.Cells2PixelsNCA(6, 9, alive=True), False, {"alive": True}),
    "DyNCA": (lambda: models.DyNCA(6, 3, 9), True, {}),
    "GrowingNCA": (lambda: models.GrowingNCA(6, hidden_size=9), False, {}),
    "M3DNCA": (lambda: models.M3DNCA(6, hidden_size=9, levels=3, kernel_size=5), True, {}),
    "MaxNCA": (lambda: models.MaxNCA(6, hidden_size=9, num_classes=4), True, {}),
    "MedNCA": (lambda: models.MedNCA(6, 9, (5, 3), image_channels=2), True, {}),
    "NCA2D": (lambda: models.NCA2D(6, 9, 5, input_channels=2), True, {}),
    "NoiseNCA": (lambda: models.NoiseNCA(6, 9, 0.25), False, {}),
    "OctreeNCA": (lambda: models.OctreeNCA(OCTREE, 6, 0.5, 9, 2, kernel_size=[3, 5]), True, {"res_and_steps": OCTREE}),
    "PENCA": (lambda: models.PENCA(6, 9), False, {}),
    "SelfClassifyingNCA": (lambda: models.SelfClassifyingNCA(6, 9, (8, 7), ndim=3), True, {}),
    "TextureNCA": (lambda: models.TextureNCA(6, 9), True, {}),
    "VanillaNCA": (lambda: models.VanillaNCA(6, 9), False, {}),
    "WBCMaxNCA": (lambda: models.WBCMaxNCA(6, hidden_size=9, num_classes=4), True, {}),
}


def test_every_model_is_here() -> None:
    wrappers = {"CascadeNCA"}  # whose automata take weights of their own
    assert set(MODELS) == set(models.__all__) - wrappers == set(identify._READERS)


@pytest.mark.parametrize("name", MODELS)
def test_shapes_tell_what_they_can(name: str, tmp_path) -> None:
    """The model that is built has the weights, and the arguments of the model that was saved."""
    make, alone, said = MODELS[name]
    model = make()
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    module, found = import_weights(tmp_path / "weights.pth", None if alone else name, arguments=said)
    assert type(module) is type(model) and not module.training and not set(found.told) & set(found.assumed)
    want, have = model.config(), module.config()
    told = json.loads(json.dumps({key: want[key] for key in found.told}))
    assert told == json.loads(json.dumps({key: have[key] for key in found.told}))
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, module.state_dict()[key])
    if not alone:
        with pytest.raises(ValueError, match=f"fit several models.*give --like .*{name}"):
            import_weights(tmp_path / "weights.pth")


def backbone(tmp_path) -> tuple[originals.Dense, str]:
    model = originals.Dense(6, 0.3, 9, 2)
    nn.init.normal_(model.fc1.weight)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    return model, str(tmp_path / "weights.pth")


def test_the_command_writes_what_load_reads(tmp_path, capsys) -> None:
    """And says what it took from the weights, and what it assumed."""
    original, path = backbone(tmp_path)
    output = str(tmp_path / "model.safetensors")
    assert cli.main(["import", path, "--output", output, "--set", "input_channels=2", "fire_rate=0.0"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "BackboneNCA, 885 parameters: "
        "channel_n=6, hidden_size=9, batch_norm=False, kernel_size=3, input_channels=2, fire_rate=0.0",
        f"written: {output}",
    ]
    x = torch.rand(1, 7, 9, 6)
    model = ncafast.load(output)
    torch.testing.assert_close(model(x, 4, None), original(x, 4, 0.0), rtol=1e-5, atol=1e-5)
    assert cli.main(["import", path, "--like", "BackboneNCA", "--output", output]) == 1
    assert "exists; give another --output, or --overwrite" in capsys.readouterr().err
    assert cli.main(["import", path, "--like", "BackboneNCA", "--output", output, "--overwrite"]) == 0
    assert "assumed, as no weight tells it: fire_rate=0.5, input_channels=1; --set" in capsys.readouterr().out


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"module." + name: value for name, value in s.items()},
        lambda s: {"_orig_mod." + name: value for name, value in s.items()},
        lambda s: {"nca." + name: value for name, value in s.items()},
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model": {"module." + name: value for name, value in s.items()}, "optimizer": {"state": {}}},
    ],
    ids=["DDP", "compiled", "Lightning", "nested", "nested DDP"],
)
def test_wrapped_weights_are_found(wrap, tmp_path) -> None:
    model, path = backbone(tmp_path)
    torch.save(wrap(model.state_dict()), path)
    module, found = import_weights(path)
    assert found.name == "BackboneNCA"
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in model.state_dict().items())


def test_safetensors_are_read_and_keep_their_dtype(tmp_path) -> None:
    model = models.DyNCA(5, 3, 8).double()
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    module, _ = import_weights(tmp_path / "weights.safetensors")
    assert module.w1.weight.dtype == torch.float64 and torch.equal(module.w1.weight, model.w1.weight)


class Evil:
    """Would make a file if it were unpickled."""

    def __init__(self, path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_code_in_a_file_does_not_run(tmp_path) -> None:
    torch.save({"fc0.weight": Evil(tmp_path / "made")}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="holds more than tensors.*state_dict"):
        import_weights(tmp_path / "evil.pth")
    assert not (tmp_path / "made").exists()


def advice(error: ValueError, path, folder) -> None:
    """Do what the message says."""
    (command,) = re.findall(r"torch\.save\(.*'weights\.pth'\)", str(error))
    exec(command.replace("PATH", repr(str(path))).replace("'weights.pth'", repr(str(folder / "weights.pth"))))


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old"])
def test_a_whole_module_is_refused_with_the_way_out(old, tmp_path) -> None:
    model, path = originals.Dense(6, 0.3, 9), tmp_path / "model.pth"
    torch.save(model, path, _use_new_zipfile_serialization=not old)
    with pytest.raises(ValueError, match="whole pickled module or other object, published_variants.Dense, ") as raised:
        import_weights(path)
    advice(raised.value, path, tmp_path)
    assert torch.equal(import_weights(tmp_path / "weights.pth")[0].fc0.weight, model.fc0.weight)


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old"])
def test_a_training_state_is_refused_with_the_way_out(old, tmp_path) -> None:
    """A dict, of which one entry is the weights and another is no tensor."""
    model, path = originals.Dense(6, 0.3, 9), tmp_path / "state.pth"
    optimizer = torch.optim.Adam(model.parameters()).state_dict()
    state = {"epoch": 3, "net": model.state_dict(), "optimizer": optimizer, "args": argparse.Namespace(lr=0.1)}
    torch.save(state, path, _use_new_zipfile_serialization=not old)
    with pytest.raises(ValueError, match=r"more than tensors \(argparse.Namespace\), .*\['net'\]") as raised:
        import_weights(path)
    advice(raised.value, path, tmp_path)
    assert torch.equal(import_weights(tmp_path / "weights.pth")[0].fc0.weight, model.fc0.weight)


LEVELS = {
    "MedNCA": (lambda: models.MedNCA(6, 9, (5, 3), image_channels=2), "model1", "model2"),
    "M3DNCA": (lambda: models.M3DNCA(6, hidden_size=9, levels=2, kernel_size=[5, 3]), "model.0", "model.1"),
}


@pytest.mark.parametrize("name", LEVELS)
def test_files_of_the_levels_become_one_model(name, tmp_path, capsys) -> None:
    """In the order in which they are given, also where nobody says what they are of."""
    make, *parts = LEVELS[name]
    model = make()
    paths = [tmp_path / f"{number}.pth" for number in range(len(parts))]
    for path, part in zip(paths, parts, strict=True):
        torch.save(model.get_submodule(part).state_dict(), path)
    output = tmp_path / "model.safetensors"
    assert cli.main(["import", *map(str, paths), "--like", name, "--output", str(output)]) == 0
    loaded, (guessed, _) = ncafast.load(output), import_weights(paths)
    for key, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor) and torch.equal(guessed.state_dict()[key], tensor)
    with pytest.raises(ValueError, match=r"0.pth, .*1.pth: --like NCA2D is one model of one file; MedNCA or M3DNCA"):
        import_weights(paths, "NCA2D")


def test_files_that_are_no_levels_are_refused(tmp_path) -> None:
    _, path = backbone(tmp_path)
    with pytest.raises(ValueError, match="fit neither; the first file is of BackboneNCA: import each by itself"):
        import_weights([path, path])
    with pytest.raises(ValueError, match=r"not those of a MedNCA: model1\.perception\.weight is missing"):
        import_weights([path, path], "MedNCA")
    with pytest.raises(ValueError, match="path holds no file"):
        import_weights([])


@pytest.mark.parametrize("prefix", ["", "nca."])
def test_wrong_arguments_are_said_of_the_model_that_is_found(prefix, tmp_path) -> None:
    model, path = backbone(tmp_path)
    torch.save({prefix + name: value for name, value in model.state_dict().items()}, path)
    with pytest.raises(ValueError, match="BackboneNCA cannot be built for these weights: fire_rate=7"):
        import_weights(path, arguments={"fire_rate": 7})
    with pytest.raises(ValueError, match=r"BackboneNCA has no argument 'firerate' \(did you mean 'fire_rate'\?\)"):
        import_weights(path, arguments={"firerate": 0.3})


def test_half_precision_is_said(tmp_path, capsys) -> None:
    """At the import, and where a float32 state then does not go with it."""
    path, output = tmp_path / "half.pth", tmp_path / "half.safetensors"
    torch.save(models.DyNCA(5, 3, 8).half().state_dict(), path)
    assert cli.main(["import", str(path), "--output", str(output)]) == 0
    assert "parameters of float16: " in capsys.readouterr().out
    nca = ncafast.NCA(4, 6).half()
    with pytest.raises(TypeError, match=r"torch.float16, but x is torch.float32; .* with model.float\(\)"):
        nca(torch.rand(1, 4, 5, 5), steps=1)
    nca.float()(torch.rand(1, 4, 5, 5), steps=1)


def test_the_output_is_named_as_what_it_is(tmp_path, capsys) -> None:
    _, path = backbone(tmp_path)
    assert cli.main(["import", path, "--output", str(tmp_path / "z.txt")]) == 1
    assert "z.txt would hold safetensors; give a name that ends in .safetensors" in capsys.readouterr().err
    assert not (tmp_path / "z.txt").exists()


REFUSED = {
    "wrong model": (
        lambda s: s,
        {"like": "MaxNCA"},
        "weights are not those of a MaxNCA: fc3.weight is missing; they fit --like BackboneNCA",
    ),
    "no such model": (lambda s: s, {"like": "UNet"}, "there is no model 'UNet'; there are BackboneNCA, "),
    "missing": (
        lambda s: {name: value for name, value in s.items() if name != "p1.bias"},
        {"like": "BackboneNCA"},
        "not those of a BackboneNCA: p1.bias is missing$",
    ),
    "surplus": (
        lambda s: s | {"head.weight": torch.zeros(3)},
        {"like": "BackboneNCA"},
        "not those of a BackboneNCA: head.weight is not known to the class$",
    ),
    "shape": (
        lambda s: s | {"p1.weight": torch.zeros(6, 6, 5, 5)},
        {"like": "BackboneNCA"},
        r"p1.weight has shape \[6, 6, 5, 5\], its arguments give \[6, 6, 3, 3\]",
    ),
    "nobody's": (lambda s: s | {"head.weight": torch.zeros(3)}, {}, "those of no published model .*bring-your-own"),
    "argument": (
        lambda s: s,
        {"like": "BackboneNCA", "arguments": {"fire": 1}},
        r"has no argument 'fire' \(did you mean 'fire_rate'\?\); it has chan",
    ),
    "value": (
        lambda s: s,
        {"like": "BackboneNCA", "arguments": {"fire_rate": 2}},
        "cannot be built .* fire_rate=2.0 is not",
    ),
    "two": (lambda s: {"ema": s, "model": s}, {}, "several sets of weights: give --key ema or --key model"),
    "no key": (lambda s: {"ema": s}, {"key": "model"}, "has no 'model'; it holds ema"),
    "no tensors": (lambda s: {"epoch": 3}, {}, "holds a dict without a state_dict"),
    "a tensor": (lambda s: torch.zeros(3), {}, "holds a Tensor without a state_dict"),
}


@pytest.mark.parametrize(("change", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_explained(change, options, message, tmp_path) -> None:
    model, path = backbone(tmp_path)
    torch.save(change(model.state_dict()), path)
    with pytest.raises(ValueError, match=message) as raised:
        import_weights(path, **options)
    assert str(raised.value).startswith(path) and "\n" not in str(raised.value)


def test_other_files_are_refused(tmp_path) -> None:
    (tmp_path / "text.pth").write_text("weights")
    with pytest.raises(ValueError, match="neither a safetensors file nor one of torch.save"):
        import_weights(tmp_path / "text.pth")
    ncafast.save(tmp_path / "ours.safetensors", models.PENCA(4, 6))
    with pytest.raises(ValueError, match="is a model file of ncafast already"):
        import_weights(tmp_path / "ours.safetensors")
    with pytest.raises(FileNotFoundError, match="no checkpoint at .*: there is no such file"):
        import_weights(tmp_path / "none.pth")
    _, path = backbone(tmp_path)
    (tmp_path / "short.pth").write_bytes(Path(path).read_bytes()[:-100])
    with pytest.raises(ValueError, match="damaged or cut short"):
        import_weights(tmp_path / "short.pth")
    torch.save(models.OctreeNCA(OCTREE).state_dict(), tmp_path / "octree.pth")
    with pytest.raises(ValueError, match="OctreeNCA needs an argument that no weight tells, res_and_steps, such as"):
        import_weights(tmp_path / "octree.pth")
