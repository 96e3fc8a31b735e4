"""Generated JavaScript without a purpose, as dense and varied as a minified player script.

Everything here is a definition or an assignment that runs without error: the solver executes the whole script.
"""

import random
import string
from collections.abc import Callable, Sequence
from typing import Final

_LETTERS: Final = string.ascii_letters
_LINES_OF_WORDS: Final = (
    "adaptation audio bandwidth buffer caption codec config content context decode delay device duration element",
    "enable error event experiment fetch flag format frame height index initial innertube key latency level",
    "license live load manifest media metadata mode muted offset onesie overlay pause percent playback player",
    "playlist policy position prefetch preroll quality range rate ready request resolution response resume sample",
    "seek segment session signal source start state stream subtitle surface target telemetry text thumbnail time",
    "timeout timestamp token track type update url value version video view viewport visible volume wait width",
)
_WORDS: Final = tuple(word for line in _LINES_OF_WORDS for word in line.split(" "))
_NAMES: Final = tuple(f"{first}{second}" for first in _LETTERS for second in "abcdefghijkmnpqrsuvwxyzABCDEFGHIJ01_$")
# Lines of function bodies.
_LINES: Final = (
    "this.{name}={value};",
    "if({value}){{b={other};return}}",
    "var d=a.{name}&&{value}?{other}:null;",
    "for(var e=0;e<a.length;e++)c.push(a[e]===void 0?{value}:{other});",
    "try{{{function}({value})}}catch(f){{this.{name}(f,{number})}}",
    "switch(a){{case {number}:b={value};break;default:c={other}}}",
    "b={{{name}:{value},{key}:[{other},{number}]}};",
    "this.{name}.then(function(h){{return h.{key}?{value}:{other}}},void 0);",
    "c=/^{text}([a-z]+)[0-9]{{1,30}}$/.test({value});",
)


class _Writer:
    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._pick: Callable[[Sequence[str]], str] = chance.choice
        self._defined: list[str] = ["window"]
        self._count = 0

    def statement(self) -> str:
        """Return one top-level statement, most often a function or a class with its methods."""
        share = self._chance.random()
        if share < 0.5:
            return self._function()
        if share < 0.85:
            return self._class()
        return self._table()

    def _new(self) -> str:
        # Three characters and more: no clash with the names that `script` uses.
        self._count += 1
        name = f"{_NAMES[self._count % len(_NAMES)]}{self._count // len(_NAMES)}z"
        self._defined.append(name)
        return name

    def _known(self) -> str:
        return self._defined[int(self._chance.random() * len(self._defined))]

    def _text(self) -> str:
        return f"{self._pick(_WORDS)}_{self._pick(_WORDS)}"

    def _number(self) -> int:
        return int(self._chance.random() * 4096)

    def _value(self) -> str:
        share = self._chance.random()
        if share < 0.3:
            return f"this.{self._pick(_NAMES)}"
        if share < 0.5:
            return f'{self._known()}(a,"{self._text()}")'
        if share < 0.65:
            return f"b.{self._pick(_NAMES)}({self._number()})"
        if share < 0.8:
            return f"(a|0)+{self._number()}"
        return f'"{self._text()}"'

    def _line(self) -> str:
        return self._pick(_LINES).format(
            value=self._value(),
            other=self._value(),
            name=self._pick(_NAMES),
            key=self._pick(_NAMES),
            function=self._known(),
            number=self._number(),
            text=self._text(),
        )

    def _body(self) -> str:
        return "".join([self._line() for _ in range(2 + int(self._chance.random() * 7))])

    def _function(self) -> str:
        name = self._new()
        return f"var {name}=function(a,b,c){{{self._body()}}};\n"

    def _class(self) -> str:
        name = self._new()
        methods = [
            f"{name}.prototype.{self._pick(_NAMES)}=function(a,b,c){{{self._body()}}};\n"
            for _ in range(3 + int(self._chance.random() * 6))
        ]
        return f"var {name}=function(a,b,c){{{self._body()}}};\n" + "".join(methods)

    def _table(self) -> str:
        name = self._new()
        rows = [f'{self._text()}{i}:{{id:{self._number()},name:"{self._text()}",on:!{i % 2}}}' for i in range(12)]
        return f"g.{name}={{{','.join(rows)}}};var {name}=g.{name};\n"


def statements(size_bytes: int, *, seed: int) -> list[str]:
    """Return top-level statements of about this size in all."""
    writer = _Writer(random.Random(seed))
    made: list[str] = []
    while size_bytes > 0:
        made.append(writer.statement())
        size_bytes -= len(made[-1])
    return made
