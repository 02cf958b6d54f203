"""Instruction sets of the CPU backend: forced ones, unknown ones, and no newer instruction where an older one runs."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from cases import CASES, make_params, make_state

from ncafast import backends, native, rollout

ROOT = Path(__file__).resolve().parents[2]
SETS = ["avx512", "avx2", "portable"]
FLAGS = ["-std=c++17", "-O3", "-fPIC", "-fopenmp", "-fvisibility=hidden", "-Icsrc", "-Icsrc/cpu"]
X86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="there is one path on this processor")


def run():
    rule, size = CASES["batch norm"]
    return rollout(
        make_state(rule, size, torch.float32), rule, make_params(rule, torch.float32), 3, seed=1, backend="cpu"
    )


def command(*parts, **options):
    done = subprocess.run([str(part) for part in parts], cwd=ROOT, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def compiler(*names):
    found = next((path for path in map(shutil.which, names) if path), None)
    return found or pytest.skip(f"there is no {names[0]}")


def test_each_set_that_is_there_runs_when_asked_for(monkeypatch):
    """Each gives the same to within rounding; the best one is taken where none is asked for."""
    monkeypatch.delenv("NCAFAST_CPU_ISA", raising=False)
    best, want = native.load().instruction_set(), run()
    there = SETS[SETS.index(best) :]
    for name in there:
        monkeypatch.setenv("NCAFAST_CPU_ISA", name)
        assert native.load().instruction_set() == name
        torch.testing.assert_close(run(), want, rtol=1e-4, atol=1e-5)
    monkeypatch.setenv("NCAFAST_CPU_ISA", best)
    assert torch.equal(run(), want)


@pytest.mark.parametrize("wanted", ["avx1024", "AVX2", "neon"])
def test_an_unknown_set_is_refused_at_the_first_rollout(wanted, monkeypatch):
    monkeypatch.setenv("NCAFAST_CPU_ISA", wanted)
    with pytest.raises(ValueError, match=f"NCAFAST_CPU_ISA='{wanted}' cannot run here.*avx512, avx2, portable"):
        run()
    assert "cpu" in backends.available()
    monkeypatch.setenv("NCAFAST_CPU_ISA", "")  # as good as unset
    assert run().isfinite().all()


@X86
@pytest.mark.parametrize("name", ["avx2", "avx512", "bf16"])
def test_objects_of_newer_sets_share_no_symbol(name, tmp_path):
    """A weak or unique symbol, such as an inline function of the library, could be picked for older processors too."""
    target = tmp_path / f"{name}.o"
    command(compiler("g++", "clang++"), *FLAGS, "-c", f"csrc/cpu/{name}.cpp", "-o", target)
    symbols = [line.split(maxsplit=2)[-2:] for line in command(compiler("nm"), "-C", target).splitlines()]
    shared = [symbol for kind, symbol in symbols if kind in "WVu"]
    assert shared == []
    # One function leads in, which must run anywhere; all others are local.
    assert [symbol for kind, symbol in symbols if kind == "T"] == [f"ncafast::cpu::{name}_kernels()"]


@X86
def test_no_newer_instruction_outside_its_own_functions():
    """In the extension as built, AVX stands in functions of the namespaces avx2, avx512 and bf16 alone."""
    objdump = compiler("objdump")
    functions = re.split(r"\n\n[0-9a-f]+ <", command(objdump, "-d", "-C", "--no-show-raw-insn", native.load().__file__))
    newer = re.compile(r"%[yz]mm|%k[0-7]|\tv[a-z0-9]+\s.*%xmm")
    found = {text.split(">:\n")[0] for text in functions[1:] if newer.search(text)}
    if not any("::" in text.split(">:\n")[0] for text in functions):
        pytest.skip("the extension was stripped of its symbols")
    own = [f"ncafast::cpu::{name}::" for name in ("avx2", "avx512", "bf16")]
    assert all(any(namespace in name for name in found) for namespace in own)
    assert [name for name in found if not any(namespace in name for namespace in own)] == []
