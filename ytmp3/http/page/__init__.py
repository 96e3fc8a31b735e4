"""The web page at `/`: a form and a list of conversions. It works without scripts too, as a plain form.

The page is plain HTML, CSS and JavaScript modules in `static/`; there is no build step. It uses the same API as every
other client. `PAGE=off` removes it.
"""
