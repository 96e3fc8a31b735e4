"""The program of a warm deno process, and the one that parses a player script for it. Pure: makes their texts.

Parsing is done by yt-dlp-ejs, exactly as yt-dlp does it: its function `jsc` takes a player script, and returns
solutions and a smaller script. That script is the body of a function with the parameter `_result`, in which it sets the
functions `n` and `sig`. `jsc` evaluates it for every call, which takes 0.2 s; the warm process keeps the functions.
"""

import importlib.resources
from typing import Final

from msgspec import json

from ytmp3.converter.solver.messages import Challenges

WARM: Final = """
const {parse, stringify} = JSON, {fromEntries} = Object, {stdin, stdout} = Deno, encoder = new TextEncoder();
for (const name of ["log", "info", "warn", "error", "debug"]) console[name] = () => {};
for (const name of ["error", "unhandledrejection"]) addEventListener(name, (event) => event.preventDefault());
const functions = {n: null, sig: null};
function answer(message) {
  if (message.script !== undefined) { Function("_result", message.script)(functions); return {}; }
  const solve = ({kind, challenges}) => fromEntries(challenges.map((text) => [text, functions[kind](text)]));
  return {results: message.requests.map(solve)};
}
function write(value) {
  let bytes = encoder.encode(stringify(value) + "\\n");
  while (bytes.length) bytes = bytes.subarray(stdout.writeSync(bytes));
}
let rest = "";
for await (const text of stdin.readable.pipeThrough(new TextDecoderStream())) {
  const lines = (rest + text).split("\\n");
  rest = lines.pop();
  for (const line of lines) {
    const message = parse(line);
    try { write({id: message.id, ...answer(message)}); } catch (error) { write({id: message.id, error: `${error}`}); }
  }
}
"""
"""Reads a line with the script, then lines with requests. A player script may do what it likes in there: it can spoil
the solutions of its own player only, because each player has a process of its own."""


def parsing_program(script: str, requests: list[Challenges]) -> bytes:
    """Return the program that parses a player script, solves `requests`, and prints both results as JSON.

    Raises:
        ImportError, OSError: yt-dlp-ejs is not installed, or not the way it was.
    """
    task = {
        "type": "player",
        "player": script,
        "requests": [{"type": each.kind, "challenges": each.challenges} for each in requests],
        "output_preprocessed": True,
    }
    # JSON is JavaScript, these two line separators included (ES2019).
    return b"\n".join(
        (
            _solver_part("lib"),
            b"Object.assign(globalThis, lib);",
            _solver_part("core"),
            b"console.log(JSON.stringify(jsc(" + json.encode(task) + b")));",
        )
    )


def _solver_part(name: str) -> bytes:
    return (importlib.resources.files("yt_dlp_ejs.yt.solver") / f"{name}.min.js").read_bytes()
