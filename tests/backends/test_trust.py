"""Which GPU backend is chosen by default: verdicts of trials, how they are kept, and children that misbehave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import pytest
import torch

import ncafast
from ncafast import Rule, backends, models, ops
from ncafast.backends import child, trust, verdicts
from ncafast.backends.precision import precision, use_precision
from ncafast.backends.verdicts import Verdict

CPU = torch.device("cpu")
PASSED = Verdict("passed", "", "", 1.0, 2.0)
MACHINE = {"gpu": "NVIDIA H100", "capability": "9.0", "driver": "13000", "torch": "2.11.0", "triton": "3.6.0"}


@pytest.fixture(autouse=True)
def gpu(monkeypatch, tmp_path):
    """A machine whose GPU both backends can use, with an empty cache; states stay on the CPU."""
    monkeypatch.setenv("NCAFAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NCAFAST_TRIAL", raising=False)
    monkeypatch.delenv("NCAFAST_BACKEND", raising=False)
    monkeypatch.setattr(trust, "_machine", lambda device: dict(MACHINE))
    for name in ("cuda", "triton"):
        monkeypatch.setattr(backends.get(name), "unavailable", lambda: None)
        monkeypatch.setattr(backends.get(name), "can_run", lambda rule, x, rounding: None)
    trust.forget()
    yield
    trust.forget()


@pytest.fixture
def trials(monkeypatch):
    """The requests of all trials; each is answered with the next of `answers`, the last one again and again."""
    found = SimpleTrials()
    monkeypatch.setattr(child, "run", found.run)
    return found


class SimpleTrials:
    def __init__(self):
        self.requests, self.answers = [], [PASSED]

    def run(self, request):
        self.requests.append(request)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def question(name, rule):
    return trust.Question(name, rule, CPU, precision())


def choose(rule=Rule(), **options):  # noqa: B008 - a frozen dataclass
    return backends.choose(rule, torch.zeros(1, rule.channels, 4, 4), **options)


def test_a_backend_that_passed_is_chosen_and_its_trial_runs_once(trials, capsys):
    assert choose() == "cuda"
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "checking the cuda backend on NVIDIA H100" in said
    assert "NCAFAST_TRIAL=0" in said
    assert choose(Rule(channels=8)) == "cuda"  # one verdict for all rules
    trust.forget()  # as a new process
    assert choose() == "cuda"
    assert [request["backend"] for request in trials.requests] == ["cuda"]
    assert len(trials.requests[0]["rules"]) >= 40
    assert backends.explain(Rule(), torch.zeros(1, 16, 4, 4))["cuda"] is None
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (Verdict("failed", "the last state is off by 1"), ["failed its check", "the last state is off by 1"]),
        (Verdict("slower", "", "", 2.0, 1.0), ["is not faster here", "2.00 ms, reference 1.00 ms"]),
        (Verdict("unchecked", "the GPU is full"), ["not checked: the GPU is full"]),
    ],
)
def test_one_that_did_not_pass_is_left_out_with_the_reason(trials, verdict, words):
    trials.answers = [verdict]
    assert choose() == "cpu"
    reason = backends.explain(Rule(), torch.zeros(1, 16, 4, 4))["cuda"]
    assert all(word in reason for word in words), reason
    assert choose(name="cuda") == "cuda"  # who asks for it gets it
    assert len(trials.requests) == 2  # one each for cuda and triton


def test_the_next_backend_is_tried_where_the_first_one_failed(trials):
    trials.answers = [Verdict("failed", "wrong"), PASSED]
    assert choose() == "triton"
    assert [len(request["rules"]) for request in trials.requests][1:] == [1]


def test_explain_starts_no_trial(trials):
    found = backends.explain(Rule(), torch.zeros(1, 16, 4, 4))
    assert "not checked on this machine yet" in found["cuda"]
    assert "ncafast check" in found["triton"]
    assert trials.requests == []


def test_a_check_that_could_not_run_is_not_written_down(trials):
    trials.answers = [Verdict("unchecked", "the GPU is full")]
    assert choose() == choose() == "cpu"
    assert len(trials.requests) == 2  # this process does not ask again
    assert verdicts.read(trust.key(question("cuda", Rule()))) is None
    trust.forget()
    trials.answers = [PASSED]
    assert choose() == "cuda"


def test_switched_off(trials, monkeypatch):
    assert choose() == "cuda"
    monkeypatch.setenv("NCAFAST_TRIAL", "0")
    assert choose() == "cpu"
    assert "NCAFAST_TRIAL=0" in backends.explain(Rule(), torch.zeros(1, 16, 4, 4))["cuda"]


@pytest.mark.parametrize("part", [*MACHINE, "kernels", "precision", "dtype"])
@pytest.mark.parametrize("name", trust.CHECKED)
def test_every_part_of_the_key_counts(name, part, trials, monkeypatch):
    trust.reason_against(question(name, Rule()), may_check=True)
    trust.forget()
    if part in MACHINE:
        monkeypatch.setattr(trust, "_machine", lambda device: MACHINE | {part: "another"})
    elif part == "kernels":
        monkeypatch.setattr(trust, "kernel_hash", lambda name: "another")
    elif part == "precision":
        monkeypatch.setenv("NCAFAST_PRECISION", "bf16")
    asked = question(name, Rule())._replace(dtype=torch.float16 if part == "dtype" else torch.float32)
    assert "not checked" in trust.reason_against(asked, may_check=False)
    assert trust.reason_against(asked, may_check=True) is None
    assert len(trials.requests) == 2


def test_triton_has_a_verdict_per_compiled_rule(trials):
    for rule in (Rule(), Rule(fire_rate=0.3), Rule(step_size=0.1)):
        assert trust.reason_against(question("triton", rule), may_check=True) is None
    assert len(trials.requests) == 1  # these differ in numbers that the kernels take at run time
    for rule in (Rule(fire_rate=1.0), Rule(channels=8), Rule(norm="batch")):
        assert trust.reason_against(question("triton", rule), may_check=True) is None
    assert len(trials.requests) == 4


def test_a_corrupt_file_counts_as_none_and_is_replaced(trials):
    for content in ("", "{", "[]", '{"a": 1}', json.dumps({verdicts.digest(trust.key(question("cuda", Rule()))): {}})):
        trust.forget()
        verdicts.file().parent.mkdir(exist_ok=True)
        verdicts.file().write_text(content)
        assert choose() == "cuda"
    assert len(trials.requests) == 5
    trust.forget()
    assert trust.look_up(question("cuda", Rule())).state == "passed"


@pytest.mark.parametrize("change", [{"state": "fine"}, {"fused_ms": "1"}, {"reason": None}, {"more": 1}])
def test_an_edited_entry_counts_as_none(trials, change):
    choose()
    entries = json.loads(verdicts.file().read_text())
    (entry,) = entries.values()
    entry["verdict"] |= change
    verdicts.file().write_text(json.dumps(entries))
    trust.forget()
    assert trust.look_up(question("cuda", Rule())) is None


def test_a_cache_that_cannot_be_written_is_said_once(trials, monkeypatch, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NCAFAST_CACHE", str(tmp_path / "file" / "below"))
    assert choose() == choose() == "cuda"
    said = capsys.readouterr().err
    assert said.count("cannot be kept") == 1
    assert "NCAFAST_CACHE" in said
    assert len(trials.requests) == 1


def test_nothing_is_checked_while_a_graph_is_captured(trials, monkeypatch):
    monkeypatch.setattr(trust, "_is_capturing", lambda device: True)
    assert choose() == "cpu"
    assert trials.requests == []
    monkeypatch.undo()
    assert trust.look_up(question("cuda", Rule())) is None


def test_torch_compile_asks_while_it_traces(trials):
    trials.answers = [Verdict("failed", "wrong")]
    rule = Rule(4, hidden=(6,))
    params = {name: torch.randn(shape) for name, shape in rule.param_shapes().items()}
    x = torch.randn(1, 4, 5, 6)
    compiled = torch.compile(lambda x: ncafast.rollout(x, rule, params, 2, seed=1), fullgraph=True, backend="eager")
    expected = ncafast.rollout(x, rule, params, 2, seed=1, backend="cpu")
    assert torch.equal(compiled(x), expected)
    assert len(trials.requests) == 2


# Children that misbehave. Limits are 0 or none at all, so that no result depends on the machine's speed.
START = "import pathlib, sys, time; answer = pathlib.Path(sys.argv[2]); answer.with_name('STARTED').touch(); "
GOOD = '{"state": "passed", "reason": "", "fused_ms": 1.0, "reference_ms": 2.0}'


@pytest.mark.parametrize(
    ("code", "state", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "failed", "was ended by SIGSEGV"),
        ("raise SystemExit(3)", "failed", "ended with exit code 3"),
        ("raise ValueError('no kernel image')", "failed", "no kernel image"),
        ("print('nonsense')", "failed", "ended with exit code 0 (nonsense)"),
        (START + "answer.write_text('nonsense')", "failed", "no valid answer"),
        (START + "answer.write_bytes(b'\\xff\\xfe')", "failed", "no valid answer"),
        (START + "answer.write_text('[]')", "failed", "no valid answer"),
        (START + f"answer.write_text('{GOOD}'.replace('1.0', 'NaN'))", "failed", "no valid answer"),
        (START + f"answer.write_text('{GOOD}'.replace('1.0', '-1.0'))", "failed", "no valid answer"),
        (START + f"answer.write_text('{GOOD}'.replace('passed', 'fine'))", "failed", "no valid answer"),
        (START + f"answer.write_text('{GOOD}'); raise SystemExit(1)", "failed", "exit code 1"),
        (START + f"answer.write_text('{GOOD}'); print('noise' * 9999)", "passed", ""),
    ],
)
def test_children(code, state, words):
    verdict = child.run({}, command=(sys.executable, "-c", code))
    assert verdict.state == state
    assert words in verdict.reason
    assert "\n" not in verdict.reason


@pytest.mark.parametrize(
    ("code", "limits", "state", "words"),
    [
        ("import time; time.sleep(9999)", {"start_limit": 0.0}, "unchecked", "did not start within"),
        (START + "time.sleep(9999)", {"run_limit": 0.0}, "failed", "did not finish within"),
    ],
)
def test_children_that_hang_are_ended(code, limits, state, words, monkeypatch):
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(child.subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[0])
    verdict = child.run({}, command=(sys.executable, "-c", code), **limits)
    assert (verdict.state, words in verdict.reason) == (state, True)
    assert started[0].returncode is not None  # it was waited for


def test_a_child_that_cannot_be_started():
    verdict = child.run({}, command=("/no/such/program",))
    assert (verdict.state, "can be started" in verdict.reason) == ("unchecked", True)


SCRIPT = """
    import json, os, sys
    import torch
    from ncafast import Rule
    from ncafast.backends import child, trust
    from ncafast.backends.verdicts import Verdict

    def run(request):
        with open({log!r}, "a") as file:
            file.write("trial\\n")
        return Verdict({state})

    trust._machine = lambda device: {{"gpu": "H100"}}
    child.run = run
    {setup}
    asked = trust.Question("cuda", Rule(), torch.device("cpu"), "tf32")
    trust.reason_against(asked, may_check=True)
    print(trust.look_up(asked).describe())
"""


def run_at_once(tmp_path, count, state='"passed"', setup="", separate=False):
    """What `count` processes say, all started at once; and how many trials were run."""
    log, processes = tmp_path / "log", []
    for number in range(count):
        script = textwrap.dedent(SCRIPT).format(log=str(log), state=state, setup=setup.format(number=number))
        cache = tmp_path / (f"cache{number}" if separate else "cache")
        environment = os.environ | {"NCAFAST_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
        words = [sys.executable, "-c", script]
        processes.append(subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True))
    said = [process.communicate()[0].strip() for process in processes]
    assert all(process.returncode == 0 for process in processes)
    return said, len(log.read_text().splitlines())


def test_processes_that_ask_at_once_run_one_trial(tmp_path):
    said, trials = run_at_once(tmp_path, 3)
    assert (len(set(said)), trials) == (1, 1)


def test_ranks_never_differ_even_where_their_disks_and_gpus_would(tmp_path):
    setup = (
        "import torch.distributed as dist; "
        f"dist.init_process_group('gloo', init_method='file://{tmp_path}/store', rank={{number}}, world_size=2)"
    )
    state = '"failed", str(os.getpid())'  # each would find another verdict
    said, trials = run_at_once(tmp_path, 2, state, setup, separate=True)
    assert (len(set(said)), trials) == (1, 1)
    assert "failed its check" in said[0]


@pytest.mark.parametrize(
    ("ranks", "of_the_node", "chosen"), [("4", "2", "cpu"), ("2", "2", "cuda"), ("1", "1", "cuda"), ("4", None, "cuda")]
)
def test_ranks_on_several_nodes_wait_for_a_process_group(trials, monkeypatch, ranks, of_the_node, chosen):
    """Each would read its own disk and find its own verdict. Who starts ranks otherwise says nothing of nodes."""
    monkeypatch.setenv("WORLD_SIZE", ranks)
    if of_the_node is not None:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", of_the_node)
    assert choose() == chosen
    assert len(trials.requests) == (chosen == "cuda")
    if chosen == "cpu":
        assert "init_process_group" in backends.explain(Rule(channels=4), torch.zeros(1, 4, 5, 5))["cuda"]


@pytest.mark.parametrize(
    ("make", "shape", "rounding"),
    [
        (lambda: models.GrowingNCA(channel_n=4, hidden_size=6), (1, 5, 6, 4), "ieee"),
        (lambda: models.TextureNCA(3, 4), (1, 3, 5, 6), "ieee"),
        (lambda: models.BasicNCA3D(4, 0.5, "cpu", hidden_size=6), (1, 5, 6, 7, 4), "ieee"),
        (lambda: models.MaxNCA(4, hidden_size=6, device="cpu", input_channels=1), (1, 5, 6, 4), "tf32"),
        (lambda: models.NCA2D(4, 6, 3), (1, 4, 5, 6), "tf32"),
    ],
)
def test_precision_on_a_gpu_is_that_of_the_layers_that_a_model_replaces(monkeypatch, make, shape, rounding):
    """torch rounds to TF32 in convolutions by default, and not in linear layers."""
    monkeypatch.setenv("NCAFAST_BACKEND", "reference")
    model, x, found = make(), torch.rand(shape), []
    rollout = ops.rollout

    def spy(*arguments):
        found.append(arguments[-1])
        return rollout(*arguments)

    monkeypatch.setattr(ops, "rollout", spy)
    model(x, steps=1)
    monkeypatch.setenv("NCAFAST_PRECISION", "bf16")
    model(x, steps=1)
    with use_precision("tf32x3"):
        model(x, steps=1)
    assert found == [rounding, "bf16", "tf32x3"]


@pytest.mark.parametrize(("switched_on", "rounding"), [(False, "ieee"), (True, "tf32")])
def test_a_compiled_rollout_keeps_the_precision_of_its_layers(monkeypatch, switched_on, rounding):
    monkeypatch.setenv("NCAFAST_BACKEND", "reference")
    matmul, before = torch.backends.cuda.matmul, torch.backends.cuda.matmul.fp32_precision
    model, graphs = models.GrowingNCA(channel_n=4, hidden_size=6), []

    def record(graph, inputs):
        graphs.append(graph)
        return graph.forward

    try:
        matmul.fp32_precision = "tf32" if switched_on else "ieee"
        torch.compile(model, fullgraph=True, backend=record)(torch.rand(1, 5, 6, 4), steps=1)
    finally:
        matmul.fp32_precision = before
    (call,) = (node for node in graphs[0].graph.nodes if node.target is torch.ops.ncafast.rollout)
    assert call.args[-1] == rounding
