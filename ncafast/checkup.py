"""`ncafast check`: run the trials that decide whether a backend is chosen by default, and print their verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ncafast import backends, checkpoint, parsers
from ncafast.backends import trust, verdicts
from ncafast.rule import Rule

_PASSED, _FAILED = 0, 1
_ALL = (None,)  # the CUDA backend has one verdict for all rules


def main(words: Sequence[str]) -> int:
    """`ncafast check [--backend NAME ...] [--rule FILE]`.

    Returns:
        0 where every backend that can run here passed, 1 where one failed, was slower or could not be checked.
    """
    parser = parsers.check()
    options = parser.parse_args(list(words))
    names = options.backend or trust.checked()
    for name in names:
        if name not in trust.checked():
            parser.error(f"argument --backend: {name!r} is not allowed; choose from {', '.join(trust.checked())}")
    rules: list[Rule] = [] if options.rule is None else list(_rules(options.rule))
    failed = False
    for name in names:
        reason = backends.get(name).unavailable()
        if reason is not None:
            print(f"{name}: cannot run here: {reason}")
            continue
        for device in trust.devices(name):
            for rule in rules or (_ALL if name == "cuda" else _published()):
                verdict = trust.check(name, rule, device)
                label = "" if rule is None else f", {rule.summary()}"
                failed |= verdict.state != "passed"
                print(f"{name} on {device}{label}: {verdict.describe()}", flush=True)
    print(f"kept in {verdicts.file()}")
    return _FAILED if failed else _PASSED


def _published() -> list[Rule]:
    """Rules of the published models, each of which has a verdict of its own on every backend but CUDA."""
    from ncafast import models

    return [
        models.MaxNCA(device="cpu").rule,
        models.NCA2D(k=3).rule,
        models.NCA2D(k=7).rule,
        models.TextureNCA(12, 96).rule,
        models.GrowingNCA().rule,
        models.SelfClassifyingNCA().rule,
        models.BackboneNCA(32, 0.5).rule,
    ]


def _rules(path: Path) -> Iterator[Rule]:
    module = checkpoint.load(checkpoint.find(path))
    several = getattr(module, "rules", None)
    yield from [module.rule] if several is None else several  # type: ignore[misc]
