"""A player script of a few hundred bytes that the real solver (yt-dlp-ejs on deno) really solves.

It has what the solver looks for: one function that sets "alr" to "yes" on the link it builds, and a link class with one
method besides set, get and clone, which rewrites `n`. Real scripts do the same in 2.5 MB.
"""

from typing import Final

PLAYER_ID: Final = "cafe0123"
PATH: Final = f"/s/player/{PLAYER_ID}/player_ias.vflset/en_US/base.js"
SIGNATURE_TIMESTAMP: Final = 20_500

SCRIPT: Final = """\
var _yt_player={};(function(g){
var window=this;
var Link=function(address){this.address=address;this.query={}};
Link.prototype.set=function(name,value){this.query[name]=value};
Link.prototype.get=function(name){return this.query[name]};
Link.prototype.clone=function(){return new Link(this.address)};
Link.prototype.turn=function(){var n=this.query.n;if(n)this.query.n=n.split("").reverse().join("")};
var sign=function(text){var letters=text.split("").slice(2);letters.reverse();return letters.join("")};
var build=function(address,name,scrambled){
var link=new Link(address);link.set("alr","yes");
if(scrambled)link.set(name,encodeURIComponent(sign(decodeURIComponent(scrambled))));
return link};
g.signatureTimestamp={signatureTimestamp:20500};
})(_yt_player);
"""


def scramble(secret: str) -> str:
    """Return what `sign` above turns back into the secret."""
    return "xy" + secret[::-1]


def unturn(secret: str) -> str:
    """Return the `n` that the script's `turn` makes the secret of."""
    return secret[::-1]
