"""Solves YouTube's JavaScript challenges in deno processes that are kept warm between conversions.

YouTube scrambles the signature and the `n` parameter of media links; its player script, 2.7 MB of JavaScript, undoes
that. Alone, yt-dlp starts deno in every conversion, which parses the whole script each time: 1.2 s of CPU time and
0.3 GB. Here a script is parsed once; then a deno process keeps its two functions.

What runs where:

* `service` and `processes`: in the server. It only moves bytes, and never runs or understands a script.
* `warm_program`: in deno, without permissions, behind the sandbox's network filter. A player script runs only there.
* `messages`: what a downloading child and the server say to each other, on a socket of their own.
* `ytmp3.converter.youtube.solver_client` and `solver_provider`: in the downloading child.

Rule: the solver is never required. If it does not answer, for whatever reason, yt-dlp starts deno by itself.
"""
