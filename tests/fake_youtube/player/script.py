"""The JavaScript of a player.

The solver (yt-dlp-ejs on deno) looks for one function that sets "alr" to "yes" on the link it builds, and for a link
class with one method besides `set`, `get` and `clone`, which rewrites `n`. The light script holds little else and has
about 2 kB. The real one buries the same parts in about 2.7 MB of generated functions, classes and tables, the size of
YouTube's own: parsing it costs the solver what YouTube's costs.
"""

import dataclasses
import functools
import gzip
from typing import Final

from .ballast import statements
from .ciphers import Flavour, Player, Step, Steps

# YouTube's script of January 2026 has 2.65 MB.
REAL_BYTES: Final = 2_700_000

_HEAD: Final = """\
var _yt_player={};(function(g){
var window=this;
"""
_PARTS: Final = """\
var Qd={fl:function(a){a.reverse()},ct:function(a,b){a.splice(0,b)},
xc:function(a,b){var c=a[0];a[0]=a[b%a.length];a[b%a.length]=c},
rt:function(a,b){b%=a.length;b&&a.unshift.apply(a,a.splice(-b))},
sh:function(a,b){for(var c=0;c<a.length;c++){var d=Zq.indexOf(a[c]);d<0||(a[c]=Zq[(d+c+b)%Zq.length])}}};
var Zq="ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
var Lk=function(a){this.address=a;this.query={}};
Lk.prototype.set=function(a,b){this.query[a]=b};
Lk.prototype.get=function(a){return this.query[a]};
Lk.prototype.clone=function(){var a=new Lk(this.address);for(var b in this.query)a.query[b]=this.query[b];return a};
Lk.prototype.Wx=function(){var a=this.get("n");a&&this.set("n",Nf(a))};
var Nf=function(a){var b=a.split("");try{@n@}catch(c){return"enhanced_except_"+a}return b.join("")};
var Sg=function(a){var b=a.split("");@signature@;return b.join("")};
var Bl=function(a,b,c){var d=new Lk(a);@mark@;c&&d.set(b,encodeURIComponent(Sg(decodeURIComponent(c))));return d};
g.cfg={signatureTimestamp:@timestamp@};
"""
_TAIL: Final = "})(_yt_player);\n"
# The solver looks for the literal call; written as a property access on a computed name it is not found.
_MARKS: Final = {
    Flavour.SOLVABLE: 'd.set("alr","yes")',
    Flavour.MISLEADING: 'd.set("alr","yes")',
    Flavour.UNSOLVABLE: 'd["set"].call(d,["al","r"].join(""),"yes")',
}
_CALLS: Final = {
    Step.REVERSE: "Qd.fl(b)",
    Step.DROP: "Qd.ct(b,{k})",
    Step.SWAP: "Qd.xc(b,{k})",
    Step.ROTATE: "Qd.rt(b,{k})",
    Step.SHIFT: "Qd.sh(b,{k})",
}


def _calls(steps: Steps) -> str:
    return ";".join(_CALLS[step].format(k=k) for step, k in steps)


@dataclasses.dataclass(frozen=True, slots=True)
class Script:
    plain: bytes
    packed: bytes  # with gzip


@functools.lru_cache(maxsize=8)
def script_of(player: Player, *, is_heavy: bool) -> Script:
    """Return the script; the same player always has the same one."""
    plain = _source(player, is_heavy=is_heavy).encode("ascii")
    return Script(plain, gzip.compress(plain, 6, mtime=0))


def _source(player: Player, *, is_heavy: bool) -> str:
    n_steps = player.n_steps
    if player.flavour is Flavour.MISLEADING:
        n_steps += ((Step.SHIFT, 1),)
    parts = _PARTS
    for name, code in {
        "n": _calls(n_steps),
        "signature": _calls(player.signature_steps),
        "mark": _MARKS[player.flavour],
        "timestamp": str(player.timestamp),
    }.items():
        parts = parts.replace(f"@{name}@", code)
    if not is_heavy:
        return _HEAD + parts + _TAIL
    ballast = statements(REAL_BYTES - len(parts), seed=player.number)
    # YouTube's link class stands somewhere in the middle.
    middle = len(ballast) // 2
    return "".join((_HEAD, *ballast[:middle], parts, *ballast[middle:], _TAIL))
