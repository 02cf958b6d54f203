"""Checkpoints: round trips, metadata, atomic writes, and one clear line for every kind of damage."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils import prune

import ncafast
from ncafast import NCA, checkpoint, models

MODULES = {
    "NCA fixed": lambda: NCA(4, 6, alive=(3, 0.1)),
    "NCA learned": lambda: NCA(4, (6, 5), ndim=3, filters="learned", norm="running", immutable=1),
    "NCA no filters": lambda: NCA.from_rule(ncafast.Rule(channels=4, num_filters=0)),
    "MaxNCA": lambda: models.MaxNCA(8, 0.3, hidden_size=12, num_classes=5),
    "NCA2D": lambda: models.NCA2D(6, 8, 3, 0.7),
    "MedNCA": lambda: models.MedNCA(6, 8, (5, 3), (3, 2), 2, image_channels=2, classes=3),
    "TextureNCA": lambda: models.TextureNCA(6, 8),
    "GrowingNCA": lambda: models.GrowingNCA(),
    "SelfClassifyingNCA": lambda: models.SelfClassifyingNCA(channel_size=12, hidden_layer_sizes=(9, 8)),
}


@pytest.mark.parametrize("name", MODULES)
def test_round_trip(name, tmp_path):
    module = MODULES[name]()
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    path = tmp_path / "new folder" / "model.safetensors"
    ncafast.save(path, module, task="test")
    again = ncafast.load(path)
    assert type(again) is type(module) and not again.training
    assert again.config() == module.config()
    theirs = again.state_dict()
    assert list(theirs) == list(module.state_dict())
    assert all(torch.equal(value, theirs[key]) for key, value in module.state_dict().items())
    if hasattr(module, "rule"):
        assert again.rule == module.rule
    header = checkpoint.describe(path)
    assert header["task"] == "test" and header["model"] == type(module).__name__
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_name_as_of_torch_save_is_noted(tmp_path):
    with pytest.warns(UserWarning, match="x.pth holds safetensors, .* torch.load does not; name it .safetensors"):
        ncafast.save(tmp_path / "x.pth", NCA(4, 6))
    assert isinstance(ncafast.load(tmp_path / "x.pth"), NCA)


def test_a_folder_is_no_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint at .*: it is a folder"):
        ncafast.load(tmp_path)


def test_the_rule_stands_in_the_metadata(tmp_path):
    nca = NCA(4, 6)
    ncafast.save(tmp_path / "a", nca)
    config = json.loads(checkpoint.describe(tmp_path / "a")["config"])
    assert ncafast.Rule.from_json(config["rule"]) == nca.rule


def damaged(tmp_path, **changes):
    """A checkpoint with other metadata, or other tensors."""
    nca = NCA(4, 6)
    header = {
        "format": "ncafast",
        "format_version": "1",
        "model": "NCA",
        "config": json.dumps(nca.config()),
    }
    tensors = {key: value.contiguous() for key, value in nca.state_dict().items()} | changes.pop("tensors", {})
    save_file(tensors, tmp_path / "damaged", header | changes)
    return tmp_path / "damaged"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "was not written by ncafast.save"),
        ({"format_version": "9"}, "has format version 9, this ncafast reads 1"),
        ({"model": "Transformer"}, "holds a 'Transformer', known are NCA"),
        ({"config": "{"}, "does not fit its own description"),
        (
            {"config": '{"rule": "{\\"chanels\\": 3}", "fixed_filters": false}'},
            "unknown rule field chanels",
        ),
        ({"config": '{"size": 3}'}, "does not fit its own description"),
        ({"tensors": {"hidden.bias": torch.zeros(7)}}, "does not fit its own description"),
        ({"tensors": {"surplus": torch.zeros(7)}}, "surplus"),
        ({"tensors": {"hidden.bias": torch.zeros(6, dtype=torch.int32)}}, "hidden.bias holds torch.int32"),
        ({"config": "[1]"}, "does not fit its own description"),
        ({"config": "[" * 100000}, "does not fit its own description"),
        ({"model": "MedNCA", "config": '{"kernel_sizes": [3]}'}, "does not fit its own description"),
        ({"model": "NCA2D", "config": '{"fire_rate": "often"}'}, "does not fit its own description"),
    ],
)
def test_files_that_are_not_what_they_say(tmp_path, changes, message):
    path = damaged(tmp_path, **changes)
    with pytest.raises(ValueError) as error:
        ncafast.load(path)
    assert message in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_file_without_config_is_refused(tmp_path):
    save_file(NCA(4, 6).state_dict(), tmp_path / "a", {"format": "ncafast", "format_version": "1", "model": "NCA"})
    for read in (ncafast.load, checkpoint.describe):
        with pytest.raises(ValueError, match="a is corrupt: its metadata has no config"):
            read(tmp_path / "a")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", MODULES)
def test_the_dtype_is_kept(name, dtype, tmp_path):
    module = MODULES[name]().to(dtype)
    ncafast.save(tmp_path / "a", module)
    again = ncafast.load(tmp_path / "a")
    theirs = dict(again.named_parameters()) | dict(again.named_buffers())
    for key, value in (dict(module.named_parameters()) | dict(module.named_buffers())).items():
        assert theirs[key].dtype == value.dtype, key
        assert torch.equal(theirs[key], value), key
    assert [p.requires_grad for p in again.parameters()] == [p.requires_grad for p in MODULES[name]().parameters()]


def test_a_module_of_two_dtypes_comes_back_as_it_was(tmp_path):
    nca = NCA(4, 6)
    nca.hidden.double()
    ncafast.save(tmp_path / "a", nca)
    theirs = ncafast.load(tmp_path / "a").state_dict()
    for key, value in nca.state_dict().items():
        assert theirs[key].dtype == value.dtype and torch.equal(theirs[key], value)


def test_loaded_weights_do_not_change_with_the_file(tmp_path):
    nca = NCA(4, 6)
    ncafast.save(tmp_path / "a", nca)
    again = ncafast.load(tmp_path / "a")
    with open(tmp_path / "a", "r+b") as file:
        file.write(b"\xff" * (tmp_path / "a").stat().st_size)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in nca.state_dict().items())


def test_truncated_and_foreign_files(tmp_path):
    ncafast.save(tmp_path / "good", NCA(4, 6))
    data = (tmp_path / "good").read_bytes()
    for content in (b"", b"hello", data[:20], data[: len(data) // 2], data[:-1]):
        (tmp_path / "bad").write_bytes(content)
        with pytest.raises(ValueError, match="bad is (corrupt or not a safetensors file|an empty file, not a model)"):
            ncafast.load(tmp_path / "bad")
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        ncafast.load(tmp_path / "missing")
    checkpoint.save_resume(tmp_path / "resume.pt", {"step": 3})
    with pytest.raises(ValueError, match=r"such as resume\.pt, the state of a training; give a \.safetensors file"):
        ncafast.load(tmp_path / "resume.pt")


@pytest.mark.parametrize(
    ("name", "what"), [("brain.nii.gz", "a NIfTI image"), ("a.PNG", "a picture"), ("b.dcm", "a DICOM file")]
)
def test_a_file_that_is_plainly_no_model_is_called_what_it_is(tmp_path, name, what):
    (tmp_path / name).write_bytes(bytes(600))
    with pytest.raises(ValueError, match=f"{name} is {what}, not a model; give a checkpoint") as error:
        ncafast.load(tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_state_dict_of_another_model_names_that_one():
    backbone, basic = models.BackboneNCA(6, 0.5, hidden_size=9), models.BasicNCA(6, 0.5, hidden_size=9)
    said = r"those of ncafast.models.BackboneNCA\(channel_n=6, hidden_size=9, batch_norm=False, kernel_size=3\)"
    with pytest.raises(RuntimeError, match=said):
        basic.load_state_dict(backbone.state_dict())
    with pytest.raises(RuntimeError, match=r"those of ncafast.models.BasicNCA\(channel_n=6, "):
        backbone.load_state_dict(basic.state_dict())
    with pytest.raises(RuntimeError, match=r"ncafast.models.BasicNCA\(channel_n=6, hidden_size=9"):
        models.BasicNCA(8, 0.5, hidden_size=9).load_state_dict(basic.state_dict())
    with pytest.raises(RuntimeError, match="BackboneNCA"):
        NCA(6, 9).load_state_dict(backbone.state_dict())
    with pytest.raises(RuntimeError, match="The tensors are those of an ncafast.NCA"):
        backbone.load_state_dict(NCA(6, 9).state_dict())
    with pytest.raises(RuntimeError) as error:
        backbone.load_state_dict({"weight": torch.zeros(2)})
    assert "The tensors are" not in str(error.value)


def test_what_cannot_be_saved(tmp_path):
    with pytest.raises(TypeError, match="cannot save a Linear: known are NCA"):
        ncafast.save(tmp_path / "a", nn.Linear(2, 2))
    with pytest.raises(TypeError, match="metadata epoch=3 must be text, got int"):
        ncafast.save(tmp_path / "a", NCA(4, 6), epoch=3)
    for key in ("format", "format_version", "ncafast", "model", "config"):
        with pytest.raises(ValueError, match=f"metadata {key}='x' is not allowed: the names format, .* are taken"):
            ncafast.save(tmp_path / "a", NCA(4, 6), **{key: "x"})
    namesake = type("NCA", (nn.Linear,), {"config": lambda self: {}})(2, 2)
    with pytest.raises(TypeError, match=r"cannot save a test_checkpoint\.NCA: known are NCA"):
        ncafast.save(tmp_path / "a", namesake)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    ncafast.save(tmp_path / "a", NCA(4, 6))
    before = (tmp_path / "a").read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(checkpoint.os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        ncafast.save(tmp_path / "a", NCA(4, 8))
    assert (tmp_path / "a").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_a_best_model_that_is_cut_off_names_the_last_one(tmp_path):
    ncafast.save(tmp_path / "last.safetensors", NCA(4, 8))
    data = (tmp_path / "last.safetensors").read_bytes()
    for name, said in (("best", "; last.safetensors beside it may be whole, so give that"), ("other", "")):
        (tmp_path / f"{name}.safetensors").write_bytes(data[:-30])
        with pytest.raises(ValueError, match=r"is corrupt or not a safetensors file: ") as error:
            ncafast.load(tmp_path / f"{name}.safetensors")
        assert str(error.value).endswith(said) and ("last.safetensors" in str(error.value)) == bool(said)


def test_training_state(tmp_path):
    state = {"step": 3, "weights": {"a": torch.randn(3)}, "history": [{"loss": 0.5}], "name": "x"}
    checkpoint.save_resume(tmp_path / "resume.pt", state)
    again = checkpoint.load_resume(tmp_path / "resume.pt")
    assert torch.equal(again["weights"].pop("a"), state["weights"].pop("a")) and again == state
    data = (tmp_path / "resume.pt").read_bytes()
    for content in (b"", b"hello", data[:100], data[:-30]):
        (tmp_path / "bad.pt").write_bytes(content)
        with pytest.raises(ValueError, match=r"bad\.pt is corrupt or not a training state; delete it to start anew$"):
            checkpoint.load_resume(tmp_path / "bad.pt")
    torch.save([1], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="holds a list"):
        checkpoint.load_resume(tmp_path / "list.pt")
    with pytest.raises(FileNotFoundError, match="no training state at"):
        checkpoint.load_resume(tmp_path / "none.pt")


def head():
    module = models.MaxNCA(device="cpu")
    module.fc3 = nn.Linear(128, 5)
    return module


def other_norm():
    module = models.MaxNCA(hidden_size=8, device="cpu")
    module.bn = nn.GroupNorm(2, 8)
    return module


def other_eps():
    module = models.MaxNCA(device="cpu")
    module.bn.eps = 0.1
    return module


def parametrized():
    nca = NCA(4, 6)
    nn.utils.parametrizations.weight_norm(nca.hidden, "weight")
    return nca


def pruned():
    nca = NCA(4, 6)
    prune.l1_unstructured(nca.hidden, "weight", 0.5)
    return nca


def extra_buffer():
    nca = NCA(4, 6)
    nca.register_buffer("mean", torch.zeros(3))
    return nca


def rates_per_level():
    module = models.MedNCA(steps=(1, 1))
    module.model2.fire_rate = 0.25
    return module


def no_json():
    return models.MaxNCA(device="cpu", init_method=object())


BARE = {
    head: "fc3.weight has shape [5, 128], its arguments give [13, 128] (set the module's attribute num_classes to 5",
    other_norm: "rule.norm is 'group', and load would set it to 'batch'",
    other_eps: "rule.norm_eps is 0.1, and load would set it to 1e-05",
    parametrized: "hidden.weight is missing (torch.nn.utils.parametrize.remove_parametrizations",
    pruned: "hidden has its weight computed by torch.nn.utils.prune in a hook",
    extra_buffer: "mean is not known to the class",
    rates_per_level: "model2.rule.fire_rate is 0.25, and load would set it to 0.5",
    no_json: "init_method is a object, and a file holds only numbers, text and lists of these",
}


@pytest.mark.parametrize("make", BARE)
def test_what_load_would_not_build_is_written_as_bare_tensors(make, tmp_path):
    module, path = make(), tmp_path / "a.safetensors"
    with pytest.warns(UserWarning) as said:
        ncafast.save(path, module, task="test")
    (line,) = [str(warning.message) for warning in said]
    assert BARE[make] in line and str(path) in line and "\n" not in line
    with pytest.raises(ValueError) as error:
        ncafast.load(path)
    assert BARE[make] in str(error.value) and "module.load_state_dict(safetensors.torch.load_file(" in str(error.value)
    again = make()
    for parameter in again.parameters():
        nn.init.zeros_(parameter.detach())
    again.load_state_dict(load_file(path))  # as the line says
    for key, value in module.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)


def test_another_head_round_trips_once_its_argument_says_so(tmp_path):
    module = head()
    module.num_classes = 5
    ncafast.save(tmp_path / "a", module)
    assert torch.equal(ncafast.load(tmp_path / "a").fc3.weight, module.fc3.weight)


def test_tied_layers_stay_tied(tmp_path):
    module = models.MedNCA(6, 8, (3, 3), (2, 2), 2)
    module.model2.fc1 = module.model1.fc1
    module.model2.fc2.weight = module.model1.fc2.weight
    ncafast.save(tmp_path / "a", module)
    again = ncafast.load(tmp_path / "a")
    assert again.model2.fc1.weight is again.model1.fc1.weight and again.model2.fc2.weight is again.model1.fc2.weight
    assert again.model2.fc2.bias is not again.model1.fc2.bias
    assert len(list(again.parameters())) == len(list(module.parameters()))
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in module.state_dict().items())


def test_weights_that_are_views_of_one_tensor_are_loaded_with_their_values(tmp_path):
    nca, whole = NCA(4, 6), torch.randn(12)
    nca.hidden.bias = nn.Parameter(whole[::2])
    ncafast.save(tmp_path / "a", nca)
    assert torch.equal(ncafast.load(tmp_path / "a").hidden.bias, whole[::2])
    module = models.MedNCA(6, 8, (3, 3), (2, 2), 2)
    module.model1.fc1.bias, module.model2.fc1.bias = nn.Parameter(whole[:8]), nn.Parameter(whole[4:])
    ncafast.save(tmp_path / "a", module)
    again = ncafast.load(tmp_path / "a")
    assert torch.equal(again.model1.fc1.bias, whole[:8]) and torch.equal(again.model2.fc1.bias, whole[4:])


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda nca: torch.compile(nca, backend="eager")])
def test_wrappers_are_looked_through(wrap, tmp_path):
    nca = NCA(4, 6)
    ncafast.save(tmp_path / "a", wrap(nca))
    again = ncafast.load(tmp_path / "a")
    assert list(again.state_dict()) == list(nca.state_dict())
    assert torch.equal(again.hidden.weight, nca.hidden.weight)


def test_numbers_of_numpy_are_arguments_too(tmp_path):
    module = models.MedNCA(6, 8, (3, 3), (2, 2), 2)
    module.steps, module.scale = (np.int64(3), np.int32(2)), np.int64(4)
    ncafast.save(tmp_path / "a", module)
    again = ncafast.load(tmp_path / "a")
    assert again.steps == (3, 2) and again.scale == 4


def test_weights_without_numbers_are_refused(tmp_path):
    with pytest.raises(ValueError, match="perceive.weight is on the meta device, which holds no numbers"):
        ncafast.save(tmp_path / "a", NCA(4, 6).to("meta"))
    with pytest.raises(ValueError, match="the metadata has 100,000,.*; readers of safetensors take 100,000,000"):
        ncafast.save(tmp_path / "a", NCA(4, 6), image="x" * 100_000_001)
    assert not list(tmp_path.iterdir())


def test_what_no_file_of_tensors_holds_is_named(tmp_path):
    class Remembers(nn.Linear):
        def get_extra_state(self):
            return {"step": 3}

    module = Remembers(2, 2)
    with pytest.raises(ValueError, match="_extra_state cannot be written as safetensors.*use torch.save"):
        checkpoint.save_tensors(tmp_path / "a", module)
    checkpoint.save_tensors(tmp_path / "a", module, partial=True)
    assert set(load_file(tmp_path / "a")) == {"weight", "bias"}


def test_saving_draws_no_random_numbers(tmp_path):
    module = models.MaxNCA(hidden_size=9, device="cpu")
    before = torch.get_rng_state()
    ncafast.save(tmp_path / "a", module)
    assert torch.equal(torch.get_rng_state(), before)


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


def test_nothing_is_unpickled(tmp_path, capsys):
    torch.save({"x": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match="corrupt or not a training state"):
        checkpoint.load_resume(tmp_path / "evil.pt")
    assert "executed" not in capsys.readouterr().out
