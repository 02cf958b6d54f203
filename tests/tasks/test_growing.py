"""Growing: the target, the states, training and its resume, the regeneration test, the film, and bad input."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import imageio.v3 as iio
import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from power_cut import cut_at_every_save
from safetensors.torch import load_file, save_file
from small_growing import options

import ncafast
from ncafast import backends, checkpoint, cli
from ncafast.models import GrowingNCA
from ncafast.tasks.base import Trained, load
from ncafast.tasks.growing import AnimateConfig, EvaluateConfig, TrainConfig, animate, evaluate, job, train
from ncafast.tasks.growing.emoji import draw_emoji
from ncafast.tasks.growing.healing import Course, grow, heal
from ncafast.tasks.growing.pictures import beside_channels, on_page
from ncafast.tasks.growing.states import CUTS, cut_away, pixel_loss, seed_states
from ncafast.tasks.growing.target import Target, TargetError, make_target, read_target
from ncafast.tasks.growing.task import TASK, film

FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A blue disc with a red corner, on nothing."""
    picture = Image.new("RGBA", (40, 32))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((8, 4, 31, 27), fill=(30, 60, 230, 255))
    draw.rectangle((20, 4, 31, 12), fill=(240, 40, 20, 255))
    picture.save(tmp_path / "disc.png")
    return tmp_path / "disc.png"


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(job, "_EPOCH", 3)
    monkeypatch.setattr(job.FromPool, "epoch_length", 3)


def weights(path: Path) -> dict[str, bytes]:
    return {key: tensor.numpy().tobytes() for key, tensor in load_file(path).items()}


def load_model(path: Path) -> Trained:
    return load(TASK, path, torch.device("cpu"))


def random_model(channels: int = 8) -> GrowingNCA:
    model = GrowingNCA(channels, hidden_size=12)
    torch.nn.init.normal_(model.fc1.weight, std=0.2)
    return model


def disc(padding: int = 2) -> Target:
    pixels = np.zeros((6, 5, 4), np.uint8)
    pixels[1:, 1:] = (200, 100, 50, 255)
    pixels[0] = (0, 250, 0, 128)
    return Target(pixels, padding)


# The target


def test_the_target_is_cut_scaled_and_padded(image):
    target = read_target(image, size=12, padding=3)
    assert target.pixels.shape == (12, 12, 4)  # the disc is as wide as high, the margins are gone
    whole = target.tensor()
    assert whole.shape == (4, 18, 18) and whole.dtype == torch.float32
    assert whole[:, :3].abs().sum() == 0 and whole[:, :, -3:].abs().sum() == 0
    assert (whole[:3] <= whole[3] + 1e-6).all()  # colours are multiplied by alpha
    torch.testing.assert_close(whole[:, 9, 6], torch.tensor([30, 60, 230, 255]) / 255, atol=0.02, rtol=0)
    wide = make_target(Image.new("RGBA", (30, 10), "red"), "wide", size=9, padding=0)
    assert wide.tensor().shape == (4, 3, 9)


def test_invisible_colours_do_not_bleed_in():
    """Green that is fully transparent around a red square: scaling must not mix it in."""
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[...] = (0, 255, 0, 0)
    pixels[5:27, 5:27] = (255, 0, 0, 255)
    target = make_target(Image.fromarray(pixels), "square", size=7, padding=1).tensor()
    assert target[1].max() < 0.02 and target[0].max() > 0.98


def test_a_palette_image_and_a_background_colour(tmp_path):
    page = Image.new("RGB", (20, 20), (250, 250, 250))
    ImageDraw.Draw(page).rectangle((5, 5, 14, 14), fill=(10, 20, 200))
    page.save(tmp_path / "page.png")
    target = read_target(tmp_path / "page.png", size=10, padding=0, background="white")
    assert (target.pixels == (10, 20, 200, 255)).all()
    whole = read_target(tmp_path / "page.png", size=20, padding=0, background="none")
    assert (whole.pixels[..., 3] == 255).all() and (whole.pixels[0, 0, :3] == 250).all()
    palette = Image.fromarray(np.repeat([[0, 1]], 4, 0).repeat(4, 1).astype(np.uint8), "P")
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.save(tmp_path / "palette.gif", transparency=0)
    target = read_target(tmp_path / "palette.gif", size=4, padding=0)
    assert target.pixels.shape == (4, 4, 4) and (target.pixels == (255, 0, 0, 255)).all()


def test_the_target_in_a_checkpoint_is_the_one_trained_on():
    target = disc()
    again = Target.from_text(target.to_text(), target.padding)
    assert np.array_equal(again.pixels, target.pixels) and torch.equal(again.tensor(), target.tensor())
    for text, padding in (("no base64!", 1), ("AAAA", 1), (target.to_text(), -1)):
        with pytest.raises(ValueError):
            Target.from_text(text, padding)


def broken_files(folder: Path) -> dict[str, Path]:
    good = Image.new("RGBA", (16, 16), "red")
    good.save(folder / "good.png")
    data = (folder / "good.png").read_bytes()
    files = {name: folder / name for name in ("cut.png", "text.png", "rgb.png", "empty.png", "clear.png", "faint.png")}
    files["cut.png"].write_bytes(data[:50])
    files["text.png"].write_text("not an image")
    files["empty.png"].write_bytes(b"")
    Image.new("RGB", (8, 8), "red").save(files["rgb.png"])
    Image.new("RGBA", (8, 8)).save(files["clear.png"])
    line = Image.new("RGBA", (400, 400))
    line.putpixel((0, 0), (255, 0, 0, 255))
    line.putpixel((399, 399), (255, 0, 0, 255))
    line.save(files["faint.png"])
    return files | {"folder": folder, "absent.png": folder / "absent.png"}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cut.png", "corrupt or incomplete"),
        ("text.png", "is not an image"),
        ("empty.png", "is an empty file"),
        ("rgb.png", "has no transparency (mode RGB)"),
        ("clear.png", "transparent everywhere"),
        ("faint.png", "nothing of it is left at 8 x 8 cells"),
        ("folder", "is a folder"),
        ("absent.png", "no such file"),
    ],
)
def test_a_bad_image_is_one_line_that_names_it(tmp_path, capsys, name, said):
    path = broken_files(tmp_path)[name]
    words = ["train", "growing", "--image", str(path), "--size", "8", "--output", str(tmp_path / "run")]
    assert cli.main(words) == 1
    err = capsys.readouterr().err
    assert err.startswith("ncafast: error: ") and err.count("\n") == 1
    assert str(path) in err and said in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image": None}, "--image"),
        ({"emoji": "x"}, "either"),
        ({"font": Path("f.ttf")}, "--font"),
        ({"size": 0}, "size=0"),
        ({"size": 1000}, "from 1 to 512"),
        ({"padding": -1}, "padding=-1"),
        ({"state_channels": 3}, "from 4"),
        ({"pool_size": 0}, "pool_size=0"),
        ({"pool_size": 3}, "a pool of 3"),
        ({"fire_rate": 0.0}, "fire_rate=0.0"),
        ({"fire_rate": float("nan")}, "fire_rate=nan"),
        ({"damage_size": (0.5, 0.2)}, "damage_size"),
        ({"steps": (0, 4)}, "steps=(0, 4)"),
        ({"background": "no colour"}, "is no colour"),
        ({"lr": -1.0}, "lr=-1.0"),
    ],
)
def test_bad_options_are_named(image, tmp_path, changes, said):
    with pytest.raises(ValueError) as caught:
        train(replace(options(image, tmp_path / "run"), **changes))
    assert said in str(caught.value) and "\n" not in str(caught.value)


# States


def test_the_seed_is_one_cell():
    seed = seed_states(2, 6, 5, 8)
    expected = torch.zeros(2, 6, 5, 8)
    expected[:, 3:, 2, 4] = 1
    assert torch.equal(seed, expected)


def test_the_loss_is_the_mean_over_four_channels_of_each_state():
    states, target = torch.rand(3, 2, 7, 5, 6), torch.rand(4, 5, 6)
    found = pixel_loss(states, target)
    for a in range(3):
        for b in range(2):
            expected = ((states[a, b, :4] - target) ** 2).sum() / (4 * 5 * 6)
            torch.testing.assert_close(found[a, b], expected)


def test_cuts_take_the_half_of_the_image_not_of_the_grid():
    target = torch.zeros(4, 9, 20)
    target[3, 2:6, 10:16] = 1.0  # rows 2 to 5, columns 10 to 15
    states = torch.ones(1, 5, 9, 20)
    kept = {cut: cut_away(states, cut, target)[0, 0] for cut in CUTS}
    assert kept["left"][:, :13].sum() == 0 and kept["left"][:, 13:].all()
    assert kept["right"][:, 13:].sum() == 0 and kept["right"][:, :13].all()
    assert kept["top"][:4].sum() == 0 and kept["top"][4:].all()
    assert kept["bottom"][4:].sum() == 0 and kept["bottom"][:4].all()
    gone = (kept["centre"] == 0).nonzero().tolist()
    assert gone == [[r, c] for r in range(9) for c in range(20) if (r - 3.5) ** 2 + (c - 12.5) ** 2 < 1.5**2]
    assert (states == 1).all()
    with pytest.raises(ValueError, match="left, right, top, bottom, centre"):
        cut_away(states, "middle", target)  # type: ignore[arg-type]


# The regeneration test


def test_growth_and_healing_follow_the_automaton_step_by_step(monkeypatch):
    model, target = random_model(), disc().tensor()
    grown, losses = grow(model, target, steps=70, runs=2, seed=5)  # more than are kept at a time
    assert len(losses) == 71
    state = seed_states(2, 8, *target.shape[-2:])
    torch.testing.assert_close(losses[0], float(pixel_loss(state, target).mean()))
    again, shorter = grow(model, target, steps=70, runs=2, seed=5)
    assert torch.equal(again, grown) and shorter == losses
    other, _ = grow(model, target, steps=70, runs=2, seed=6)
    assert not torch.equal(other, grown)
    assert losses[-1] == pytest.approx(float(pixel_loss(grown, target).mean()))
    (course,) = heal(model, grown, target, cuts=("top",), steps=4, seed=1)
    hurt = cut_away(grown, "top", target)
    assert course.losses[0] == pytest.approx(float(pixel_loss(hurt, target).mean()))
    assert len(course.losses) == 5 and torch.equal(course.states[:2], torch.stack((grown[0], hurt[0])))
    assert course.losses[-1] != course.losses[0]


@pytest.mark.parametrize(
    ("losses", "recovered", "half", "healed"),
    [
        ((0.05, 0.04, 0.02, 0.01, 0.012), 0.95, 2, True),
        ((0.05, 0.05, 0.06), -0.25, None, False),
        ((0.05, 0.03, 0.03), 0.5, 1, False),
        ((0.01, 0.01, 0.01), 0.0, None, False),  # the cut did no harm
    ],
)
def test_what_healed_means(losses, recovered, half, healed):
    result = Course("left", 0.01, losses, torch.zeros(3, 4, 1, 1))
    assert result.recovered == pytest.approx(recovered)
    assert (result.steps_to_half, result.healed) == (half, healed)


# Training


def test_it_learns_to_grow_a_small_image_and_to_keep_it(image, tmp_path):
    config = options(image, tmp_path / "run", epochs=4, hidden=32, steps=(8, 12), lr=4e-3)
    result = train(config)
    empty = float(read_target(image, size=6, padding=2).tensor().square().mean())
    assert max(result.measures["val_grown"], result.measures["val_later"]) < 0.25 * empty
    assert result.history[-1]["loss"] < 0.5 * result.history[0]["loss"]
    assert (tmp_path / "run" / "curves.png").is_file()
    assert iio.imread(tmp_path / "run" / "pictures" / "epoch-0004.png").shape == (40, 4 * 40 + 6, 3)
    spec = load_model(result.best).spec
    assert spec.longest == 12 and spec.regime == "regenerating" and spec.target.padding == 2


def test_the_regime_growing_starts_every_sample_from_the_seed(image, tmp_path, monkeypatch, short):
    batches = []
    original = job.Growing.losses

    def losses(self, batch, at):
        batches.append(batch)
        return original(self, batch, at)

    monkeypatch.setattr(job.Growing, "losses", losses)
    train(options(image, tmp_path / "run", regime="growing"))
    assert len(batches) == 6
    assert all(torch.equal(batch, seed_states(4, 8, 10, 10)) for batch in batches)


@pytest.mark.parametrize(("regime", "damaged"), [("persistent", 0), ("regenerating", 2)])
def test_the_pool_keeps_what_was_grown_and_only_one_regime_damages(
    image, tmp_path, monkeypatch, short, regime, damaged
):
    holes, batches = [], []
    damage, losses = job.Pool.damage, job.Growing.losses

    def cut(self, numbers, kind, random, **sizes):
        holes.append((len(numbers), kind, sizes))
        damage(self, numbers, kind, random, **sizes)

    def look(self, batch, at):
        batches.append(batch.clone())
        return losses(self, batch, at)

    monkeypatch.setattr(job.Pool, "damage", cut)
    monkeypatch.setattr(job.Growing, "losses", look)
    config = options(image, tmp_path / "run", regime=regime, damage_kind="rectangles", damage_size=(0.2, 0.3))
    train(replace(config, pool_size=4, fire_rate=1.0))
    seed = seed_states(1, 8, 10, 10)
    assert torch.equal(batches[0], seed.expand(4, -1, -1, -1))
    for batch in batches[2:]:  # an automaton whose last layer is still 0 leaves the seed as it is
        assert sum(torch.equal(state, seed[0]) for state in batch) == 1  # the worst one starts anew
    assert [number for number, _, _ in holes[1:]] == [damaged] * 5
    assert all((kind, sizes) == ("rectangles", {"least": 0.2, "most": 0.3}) for _, kind, sizes in holes)


def test_the_option_is_the_probability_that_a_cell_updates(image):
    model = TASK.job(options(image, Path("x"), fire_rate=0.8)).model
    assert model.rule.fire_rate == pytest.approx(0.8)


@pytest.mark.skipif("cpu" not in backends.available(), reason="the CPU backend is not built")
@pytest.mark.parametrize("regime", ["growing", "regenerating"])
def test_loss_curves_agree_between_the_fused_and_the_reference_backend(image, tmp_path, monkeypatch, regime):
    curve: list[float] = []
    original = job.Growing.losses

    def losses(self, batch, at):
        found = original(self, batch, at)
        curve.append(found.item())
        return found

    monkeypatch.setattr(job, "_EPOCH", 15)
    monkeypatch.setattr(job.FromPool, "epoch_length", 15)
    monkeypatch.setattr(job.Growing, "losses", losses)
    for name in ("cpu", "reference"):
        with backends.use(name):
            train(options(image, tmp_path / name, epochs=1, regime=regime, schedule="constant"))
    assert len(curve) == 30 and curve[14] < 0.98 * curve[0]
    torch.testing.assert_close(curve[:15], curve[15:], rtol=2e-3, atol=1e-5)


def test_a_batch_in_two_parts_trains_as_the_whole_one(image, tmp_path, short):
    """So do two processes; see tests/train/test_train_processes.py."""
    results = []
    for batch, parts in ((8, 1), (4, 2)):
        out = tmp_path / f"{parts}"
        train(
            options(image, out, batch_size=batch, accumulate=parts, optimiser="sgd", schedule="constant", pool_size=16)
        )
        results.append((load_file(out / "last.safetensors"), checkpoint.load_resume(out / "resume.pt")["job"]))
    for name, tensor in results[0][0].items():
        torch.testing.assert_close(results[1][0][name], tensor, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(results[1][1], results[0][1], rtol=1e-4, atol=1e-5)


def test_a_run_that_is_cut_off_goes_on_to_the_same_bits(image, tmp_path, monkeypatch, short):
    """Cut at every save in turn, right after it; the pool with its damage goes on too."""
    config = options(image, tmp_path / "cut", save_every=1)
    done = cut_at_every_save(train, config, 6, monkeypatch)
    whole = train(replace(config, output=tmp_path / "whole"))
    assert done.best_epoch == whole.best_epoch
    for kind in ("best", "last"):
        assert weights(getattr(done, kind)) == weights(getattr(whole, kind))
    states = [checkpoint.load_resume(run / "resume.pt")["job"]["states"] for run in (done.folder, whole.folder)]
    assert torch.equal(*states)


def test_another_image_in_the_same_folder_is_refused(image, tmp_path, short):
    config = options(image, tmp_path / "run")
    train(config)
    Image.open(image).rotate(90).save(tmp_path / "other.png")
    with pytest.raises(ValueError, match="run on other images"):
        train(replace(config, image=tmp_path / "other.png"))
    moved = image.rename(tmp_path / "moved.png")
    assert train(replace(config, image=moved)).best_epoch  # the same image elsewhere is the same


# From a checkpoint


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    spec = {"target": disc().to_text(), "padding": str(disc().padding), "steps": "6", "regime": "persistent"}
    checkpoint.save(path, random_model(), task="growing", facts="{}", **spec)
    return path


def test_evaluate_writes_what_it_prints(model_file, tmp_path, capsys):
    result = evaluate(EvaluateConfig(model_file, tmp_path / "out", runs=3, progress=False))
    shown = capsys.readouterr().out
    facts = json.loads(result.json.read_text())
    assert (facts["cut_step"], facts["heal_steps"], facts["grown_steps"], facts["runs"]) == (18, 12, 6, 3)
    assert [cut["cut"] for cut in facts["cuts"]] == list(CUTS)
    assert facts["empty_loss"] == pytest.approx(float(disc().tensor().square().mean()))
    target = disc().tensor()
    grown, losses = grow(load_model(model_file).model, target, steps=18, runs=3, seed=0)
    assert (facts["grown_loss"], facts["before_cut"]) == (losses[6], losses[18])
    hurt = float(pixel_loss(cut_away(grown, "bottom", target), target).mean())
    assert facts["cuts"][3]["cut_loss"] == pytest.approx(hurt)
    for cut in facts["cuts"]:
        line = next(line for line in shown.splitlines() if line.startswith(cut["cut"]))
        assert f"{cut['healed_loss']:.5f}" in line and f"{100 * cut['recovered']:.1f} %" in line
    rows = (tmp_path / "out" / "steps.csv").read_text().splitlines()
    assert rows[0] == "step,grown,left,right,top,bottom,centre" and len(rows) == 1 + 18 + 1 + 12
    assert rows[19].count(",") == 6 and ",," not in rows[19]  # at the cut every column has a number
    assert iio.imread(result.picture).ndim == 3


@pytest.mark.parametrize("progress", [True, False])
def test_evaluate_shows_how_far_it_is(model_file, tmp_path, capsys, monkeypatch, progress):
    monkeypatch.setattr("ncafast.utils.progress._EVERY", 0.0)
    evaluate(EvaluateConfig(model_file, tmp_path, runs=1, grow=70, heal=2, progress=progress))
    assert ("growing and healing: 80 of 80" in capsys.readouterr().err) == progress  # 70 + 5 cuts x 2


def test_the_film_shows_seed_growth_cut_and_healing(model_file, tmp_path):
    config = AnimateConfig(model_file, tmp_path / "film.gif", cuts=("left", "top"), grow=6, heal=4, zoom=3, fps=6)
    trained = load_model(model_file)
    labels, states = zip(*film(trained, config), strict=True)
    target = disc().tensor()
    assert len(states) == 2 + 3 + (2 + 2) + (2 + 2)  # each new sight stays for a third of a second
    assert torch.equal(states[0], seed_states(1, 8, *target.shape[-2:])[0])
    assert torch.equal(states[5], cut_away(states[4], "left", target))
    assert torch.equal(states[9], cut_away(states[8], "top", target))
    assert animate(config) == config.output
    frames = iio.imread(config.output)
    assert frames.shape[1:] == (30 + 24 + 4, 160, 3) and len(frames) <= len(states)  # GIF joins frames that are equal
    seen = frames[-1].astype(int)[:30, (160 - 27) // 2 :][:, :27]  # above label and bar, between margins
    assert np.abs(seen - on_page(states[-1], 3)).max() < 60  # a GIF has 256 colours
    assert labels[4] == "growing, step 6 of 6" and labels[5] == "left cut away" and labels[-1] == "healing, step 4 of 4"


def test_a_cut_is_called_healed_only_where_it_got_better():
    state = torch.zeros(3, 4, 2, 2)

    def verdict(*losses: float) -> str:
        return Course("left", 0.01, losses, state).verdict

    assert verdict(0.03, 0.02, 0.012) == "healed"
    assert verdict(0.03, 0.028) == "not healed"
    assert verdict(0.012, 0.015) == "got worse"  # although within twice the loss before
    assert verdict(0.03, 0.05) == "got worse"
    assert verdict(0.01, 0.01) == "no change"  # it cut nothing away
    worse = Course("left", 0.01, (0.012, 0.015), state)
    assert worse.recovered < 0 and not worse.healed


def test_states_over_white_are_what_alpha_says():
    state = torch.zeros(5, 1, 3)
    state[:4, 0, 1] = torch.tensor([0.5, 0.0, 0.25, 0.5])  # half transparent, colours multiplied by alpha
    state[:4, 0, 2] = torch.tensor([2.0, -1.0, 0.0, 3.0])
    assert on_page(state).tolist() == [[[255, 255, 255], [255, 128, 191], [255, 0, 0]]]
    assert beside_channels(torch.rand(8, 6, 5), 6).shape == (2 * (3 * 6 + 2), 2 * (3 * 5 + 3 * 5 + 2), 3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["evaluate", "--runs", "0"], "runs=0"),
        (["evaluate", "--heal", "-3"], "heal=-3"),
        (["animate", "--every", "0"], "every=0"),
        (["animate", "--output", "film.avi"], ".gif or .mp4"),
    ],
)
def test_bad_options_of_a_checkpoints_commands(model_file, capsys, words, said):
    assert cli.main([words[0], "growing", "--model", str(model_file), *words[1:]]) == 1
    err = capsys.readouterr().err
    assert err.startswith("ncafast: error: ") and err.count("\n") == 1 and said in err


def test_a_checkpoint_of_another_task_or_a_damaged_one_is_named(model_file, tmp_path):
    ncafast.save(tmp_path / "other.safetensors", random_model(), task="texture")
    said = "other.safetensors: was written by ncafast train texture; give one of ncafast train growing"
    with pytest.raises(ValueError, match=said):
        load_model(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="give a checkpoint"):
        load_model(tmp_path / "absent")
    header, tensors = checkpoint.describe(model_file), load_file(model_file)
    for change in ({"target": "xx"}, {"target": None}, {"padding": "much"}, {"steps": "0"}):
        kept = {key: value for key, value in (header | change).items() if value is not None}
        save_file(tensors, tmp_path / "bad.safetensors", kept)
        with pytest.raises(ValueError, match="bad.safetensors: is corrupt"):
            load_model(tmp_path / "bad.safetensors")
    tensors["fc1.weight"][0, 0] = float("nan")
    save_file(tensors, tmp_path / "bad.safetensors", header)
    with pytest.raises(ValueError, match="NaN or infinite"):
        load_model(tmp_path / "bad.safetensors")


def test_the_pages_python_is_what_train_takes(tmp_path, monkeypatch):
    page = Path(__file__).resolve().parents[2] / "docs" / "growing.md"
    (block,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    done = SimpleNamespace(best=tmp_path, measures={})
    seen: list[TrainConfig] = []
    monkeypatch.setattr("ncafast.tasks.growing.train", lambda config: seen.append(config) or done, raising=False)
    exec(block, {})
    assert (seen[0].image, seen[0].regime) == (Path("lizard.png"), "persistent")


# Emoji


def test_an_emoji_is_drawn_with_a_font_and_a_missing_one_is_named(tmp_path, monkeypatch):
    drawn = draw_emoji("\u2603", FONT)  # a snowman, which this font has in black
    assert drawn.mode == "RGBA" and make_target(drawn, "snowman", size=20, padding=1).pixels[..., 3].max() > 200
    for text, font, said in (
        ("\U0001f98e", FONT, "has no sign"),
        (" ", FONT, "is empty"),
        ("\u2603", tmp_path / "absent.ttf", "no such file"),
        ("\u2603", Path(__file__), "cannot be used as a font"),
    ):
        with pytest.raises(TargetError, match=said):
            draw_emoji(text, font)
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: [str(FONT)])
    with pytest.raises(TargetError, match="no colour emoji font"):
        draw_emoji("\u2603")
