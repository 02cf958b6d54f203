"""The command line: `ncafast info | demo | bench`, and `ncafast train | evaluate | predict | animate | ... TASK`.

A command is a typed dataclass of options and a function that takes it; tyro makes the options. Both are imported when
the command is called, so that `ncafast info` and `bench` run with the core dependencies alone.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import os
import sys
import textwrap
import traceback
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ncafast
from ncafast import interrupt
from ncafast.commands import DONE, FAILED, PLAIN, Command, commands
from ncafast.interrupt import INTERRUPTED
from ncafast.tasks.option_groups import grouped
from ncafast.utils.option_checks import is_range
from ncafast.utils.options_file import read_options, take_options
from ncafast.utils.outputs import BESIDE
from ncafast.utils.renamed import present_words

WRONG_USAGE = 2

_EXPECTED = (ValueError, TypeError, OSError, RuntimeError, MemoryError)  # their messages are for people


_CONFIG = (
    "JSON file with options of this command by name; those of a training are in config.json of its folder. Options of "
    "the command line win over those of the file. Left out: no file is read."
)


class _Usage(Exception):
    """The command line makes no sense, or a package that the command needs is missing."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after `ncafast`; None takes those of this process.

    Returns:
        The exit code: 0 done, 1 failed, 2 wrong usage, 130 stopped by Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    full = "--traceback" in words or os.environ.get("NCAFAST_TRACEBACK", "0") not in ("", "0")
    try:
        code = _dispatch([word for word in words if word != "--traceback"])
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except KeyboardInterrupt as stop:  # a command may have said what is left of its work
        interrupt.say(" ".join(str(stop).split()))
        return INTERRUPTED
    except _Usage as error:
        return _fail(error, WRONG_USAGE)
    except SystemExit as stop:  # tyro's, after --help or a wrong option, which it has explained itself
        return stop.code if isinstance(stop.code, int) else WRONG_USAGE
    except ImportError as error:
        if full:
            traceback.print_exc()
        return _fail(error, WRONG_USAGE)
    except _EXPECTED as error:
        if full:
            traceback.print_exc()
        return _fail(error, FAILED)


def _dispatch(words: list[str]) -> int:
    if not words:
        print(_help())
        return WRONG_USAGE
    if words[0] in ("-h", "--help", "help"):
        print(_help())
        return DONE
    if words[0] in ("-V", "--version", "version"):
        from ncafast.versions import version

        print(f"ncafast {version()}")
        return DONE
    if words[1:2] in (["-h"], ["--help"]) and words[0] in _groups():
        print(_group_help(words[0]))
        return DONE
    name, rest = _find(words)
    command = PLAIN[name] if name in PLAIN else commands()[name]
    if command.parser is not None:
        _load(command.parser)().parse_args(rest)  # ends in SystemExit where they are wrong, before torch is imported
    options = rest if command.options is None else _parse(name, command, rest)
    if name != "bench":  # which measures what a program has that imports the package
        _wait_asleep()
    ncafast._complete()
    run = _load(command.run)
    with interrupt.Released():
        code = run(*([] if command.task is None else [command.task]), options)
    return code if isinstance(code, int) else DONE


def _wait_asleep() -> None:
    """Have OpenMP's threads sleep while they wait, unless the user says otherwise; before torch is imported.

    By default they keep a processor busy that the thread they wait for may need. (Training on two threads of an EPYC
    25-1, 2026-11-29: beside two other busy processes 9.6 instead of 0.4 steps a second; alone 46 instead of 49.)
    """
    if interrupt.is_command():
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _groups() -> dict[str, list[str]]:
    """The commands that are one for each of several tasks, with these tasks."""
    found: dict[str, list[str]] = {}
    for name in commands():
        first, *task = name.split()
        if task:
            found.setdefault(first, []).append(task[0])
    return found


def _find(words: list[str]) -> tuple[str, list[str]]:
    """The command that the first one or two words name, and the words after it."""
    for count in (1, 2):
        name = " ".join(words[:count])
        if name in PLAIN or name in commands():
            return name, words[count:]
    first = words[0]
    tasks = _groups().get(first)
    if tasks is None:
        known = sorted({name.split()[0] for name in commands()})
        raise _Usage(f"there is no command {first!r}{_meant(first, known)}; see ncafast --help")
    if len(words) == 1:
        raise _Usage(f"{first} needs a task: {', '.join(tasks)}; see ncafast {first} --help")
    raise _Usage(f"{first} has no task {words[1]!r}{_meant(words[1], tasks)}; see ncafast {first} --help")


def _meant(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, 1)
    return f" (did you mean {close[0]!r}?)" if close else f"; there are {', '.join(known)}"


def _parse(name: str, command: Command, words: list[str]) -> Any:
    """The command's options, from words; --help and wrong words end in SystemExit."""
    try:
        import tyro
    except ImportError:
        extra = "demo" if name == "demo" else "tasks"
        raise _Usage(f"`ncafast {name}` needs the package tyro; run: pip install 'ncafast[{extra}]'") from None
    for before, word in zip(["", *words], words, strict=False):
        if not word or (word.startswith("--") and word.endswith("=")):  # as a path it would be the current folder
            option = word.rstrip("=") or before
            raise _Usage(f"{option} is followed by empty text; give a value, or leave it out (is a variable not set?)")
    assert command.options is not None
    options = _load(command.options) if isinstance(command.options, str) else command.options
    words = present_words(words, [field.name for field in dataclasses.fields(options)])
    words, file = _without_config(words)
    given = tyro.cli(
        _described(options, {} if file is None else _from_file(file, name, options)),
        prog=f"ncafast {name}",
        description=_paragraphs(options.__doc__ or ""),
        args=words,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    groups = [vars(group) for group in vars(given).values() if dataclasses.is_dataclass(group)]
    values = {name: value for group in groups for name, value in group.items()}
    for name, kind in typing.get_type_hints(options).items():
        if is_range(name, kind) and isinstance(values[name], int):
            values[name] = (values[name],) * 2
    return options(**values)


def _without_config(words: list[str]) -> tuple[list[str], Path | None]:
    """The words without --config FILE, and the file."""
    rest: list[str] = []
    files: list[str] = []
    left = iter(words)
    for word in left:
        if word == "--config":
            files.append(next(left, ""))
        elif word.startswith("--config="):
            files.append(word.removeprefix("--config="))
        else:
            rest.append(word)
    if len(files) > 1 or "" in files:
        raise _Usage("--config needs a JSON file" if "" in files else "--config is given twice; give one file")
    return rest, Path(files[0]) if files else None


def _from_file(path: Path, name: str, options: type[Any]) -> dict[str, Any]:
    """The options in a JSON file. What repeats a training takes all of one's options but its folder."""
    try:
        found = read_options(path)
        if hasattr(options, "task"):
            found.pop("output", None)
        if not found.keys() <= {field.name for field in dataclasses.fields(options)}:
            _refuse_other_task(path, found, name)
        return take_options(path, found, options)
    except ValueError as error:
        raise _Usage(error) from None


def _refuse_other_task(path: Path, found: dict[str, Any], name: str) -> None:
    """Raise ValueError if a file holds the options of another task's command."""
    for other, command in commands().items():
        fields = getattr(command.options, "__dataclass_fields__", {})
        if other.split()[0] == name.split()[0] and len(found) > 1 and found.keys() <= fields.keys():
            raise ValueError(f"--config {path}: holds options of ncafast {other}, not of ncafast {name}")


def _described(options: type[Any], defaults: Mapping[str, Any]) -> type[Any]:
    """A dataclass of the same fields in groups, with the text under each as its help, and with other defaults.

    tyro keeps the line breaks of such texts. Where nothing is the default, the text says what that means, in place of
    tyro's "(default: None)".
    """
    import tyro

    kinds = [kind for kind in reversed(options.__mro__) if dataclasses.is_dataclass(kind)]  # texts are inherited
    docs = [doc for kind in kinds for doc in _documented(kind)]
    texts = {doc.arg_name: doc.description for doc in docs if doc.description}
    types = typing.get_type_hints(options)
    nothing = tyro.conf.arg(help_behavior_hint="")

    def text(field: dataclasses.Field[Any]) -> str:
        beside = isinstance(field.default, Path) and field.default.parts[:1] == (BESIDE,)
        more = " By default beside the model; a number is added where that is taken." if beside else ""
        return " ".join(texts[field.name].split()) + more

    def described(field: dataclasses.Field[Any]) -> tuple[str, Any, Any]:
        default = defaults.get(field.name, field.default)
        factory = dataclasses.MISSING if field.name in defaults else field.default_factory
        made: Any = dataclasses.field(default=default, default_factory=factory, metadata={"help": text(field)})
        kind = types[field.name]
        if is_range(field.name, kind):
            kind = kind | int
        if field.default is None:  # what is open already cannot be said once more; elsewhere the word None is a value
            kind = typing.Annotated[kind, tyro.conf.DisallowNone]
        return field.name, typing.Annotated[kind, nothing] if default in (None, ()) else kind, made

    file: Any = dataclasses.field(default=None, metadata={"help": _CONFIG})
    members: list[Any] = [("config", typing.Annotated[Path | None, tyro.conf.DisallowNone, nothing], file)]
    for group, fields in grouped(dataclasses.fields(options)).items():
        made = dataclasses.make_dataclass(group, map(described, fields), kw_only=True)
        members.append((group.replace(" ", "_"), typing.Annotated[made, tyro.conf.arg(name=group)]))
    return dataclasses.make_dataclass(options.__name__, members, kw_only=True)


def _documented(kind: type[Any]) -> list[Any]:
    """The texts under the fields of a class; none of a class that was made without source."""
    from docstring_parser import parse_from_object

    try:
        return list(parse_from_object(kind).params)
    except OSError:
        return []


def _paragraphs(text: str) -> str:
    """The text with one line per paragraph."""
    blocks = textwrap.dedent(text).split("\n\n")
    return "\n\n".join(" ".join(block.split()) for block in blocks)


def _load(name: str) -> Any:
    module, attribute = name.split(":")
    return getattr(importlib.import_module(module), attribute)


def _fail(error: BaseException, code: int) -> int:
    """Print the error on one line."""
    message = " ".join(str(error).split()) or type(error).__name__
    print(f"ncafast: error: {message}", file=sys.stderr)
    return code


def _group_help(first: str) -> str:
    """Help of a command without its task."""
    summaries = {task: commands()[f"{first} {task}"].summary for task in _groups()[first]}
    return f"""usage: ncafast {first} TASK [OPTIONS]

tasks:
{_listed(summaries)}

`ncafast {first} TASK --help` lists the options of a task, with their defaults."""


def _listed(summaries: Mapping[str, str]) -> str:
    width = max(map(len, summaries))
    return "\n".join(f"  {name:<{width}}  {summary}" for name, summary in summaries.items())


def _help() -> str:
    listed = _listed({name: command.summary for name, command in commands().items()})
    return f"""usage: ncafast COMMAND [OPTIONS]

Fast neural cellular automata in PyTorch.

commands:
{listed}

`ncafast COMMAND --help` lists the options of a command, with their defaults.

options:
  -h, --help     show this help and exit
  -V, --version  show the version and exit
  --traceback    after an error, show where in the code it came from (also NCAFAST_TRACEBACK=1)

exit codes: 0 done, 1 failed, 2 wrong usage or a package is missing, 130 stopped by Ctrl-C"""
