"""Completion for bash and zsh, and the man page, made from the options of the commands. Pure.

`ytmp3 completion` and `ytmp3 man` print them, so that the client as one file has them too.
"""

import argparse
from collections.abc import Iterator, Mapping
from typing import Final

from ytmp3 import __version__

_COMPLETION: Final = """\
# Completion for bash and zsh: eval "$(ytmp3 completion)", for example in ~/.bashrc or ~/.zshrc.
if [ -n "${{ZSH_VERSION-}}" ]; then
    autoload -U +X compinit && compinit
    autoload -U +X bashcompinit && bashcompinit
fi
_ytmp3() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" words=""
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="{commands}"
    else
        case "${{COMP_WORDS[1]}} ${{COMP_WORDS[COMP_CWORD - 1]}}" in
{values}
        esac
        case "$current" in -*)
            case "${{COMP_WORDS[1]}}" in
{cases}
            esac
        esac
    fi
    if [ -n "$words" ]; then
        COMPREPLY=($(compgen -W "$words" -- "$current"))
    else
        COMPREPLY=($(compgen -f -- "$current"))
    fi
}}
complete -o filenames -F _ytmp3 ytmp3
"""


def completion(commands: Mapping[str, argparse.ArgumentParser]) -> str:
    """Return the shell code that completes commands, options, their values and file names."""
    values = (
        f'            "{name} {option}") words="{" ".join(action.choices)}" ;;'
        for name, parser in commands.items()
        for action in parser._actions  # noqa: SLF001  argparse has no public way to list the options
        if action.choices is not None
        for option in action.option_strings
    )
    cases = (f'                {name}) words="{" ".join(_flags(parser))}" ;;' for name, parser in commands.items())
    return _COMPLETION.format(commands=" ".join(commands), values="\n".join(values), cases="\n".join(cases))


def man_page(commands: Mapping[str, argparse.ArgumentParser]) -> str:
    """Return the man page, in the format of man(7)."""
    lines = [
        f'.TH YTMP3 1 "" "ytmp3 {__version__}" "User Commands"',
        ".SH NAME",
        r"ytmp3 \- convert YouTube links to verified audio files",
    ]
    for name, parser in commands.items():
        lines += [".SH " + _escaped(f"ytmp3 {name}".upper()), *_section(parser)]
    return "\n".join(lines) + "\n"


def _section(parser: argparse.ArgumentParser) -> Iterator[str]:
    usage = parser.format_usage().removeprefix("usage: ")
    yield f".B {_escaped(' '.join(usage.split()))}"
    yield ".PP"
    yield _escaped(" ".join((parser.description or "").split()))
    for action in parser._actions:  # noqa: SLF001  argparse has no public way to list the options
        names = [f"{name} {action.metavar or ''}".rstrip() for name in action.option_strings]
        yield ".TP"
        yield f".B {_escaped(', '.join(names) or str(action.metavar or action.dest))}"
        yield _escaped(action.help or "")
    if parser.epilog:
        # Its lines are kept as they are.
        yield from (".PP", ".nf", *map(_escaped, parser.epilog.strip().splitlines()), ".fi")


def _flags(parser: argparse.ArgumentParser) -> list[str]:
    actions = parser._actions  # noqa: SLF001
    return [name for action in actions for name in action.option_strings if name.startswith("--")]


def _escaped(text: str) -> str:
    """Return a line of text that roff does not take for a command."""
    text = text.replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{text}" if text.startswith((".", "'")) else text
