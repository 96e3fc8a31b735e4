"""Releases of yt-dlp beside the built-in one, in a folder of the data folder (`ytmp3 extractor`).

`store` keeps them, and the state that says which one is used. A new release is fetched (`index`, `wheels`) and tried
(`inspection`) in sandboxed child processes, which `workshop` starts; `__main__` is their program. `commands` has the
steps of `ytmp3 extractor`. A running server follows the state (`converter.generations`), and with
YTDLP_UPDATE it fetches and tries newer releases by itself (`updater`, `canary`).
"""
