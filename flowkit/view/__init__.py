"""Flow for the eye: colour coding, strips, side-by-side films, a report page of a whole store.

`wheel` turns flow into colours and explains them; `footage` samples one video and `panels` shows it,
with `canvas` to draw on; `motion` measures how a video moves, `summary` does so for a whole store
and `page` makes it one HTML file.
"""
