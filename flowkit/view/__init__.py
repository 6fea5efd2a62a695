"""Flow as images: colour coding, strips, side-by-side films, a report page of a whole store.

`wheel` maps flow to colours and draws their legend; `footage` samples one video and `panels` shows it,
with `canvas` to draw on; `motion` measures the motion of a video, `summary` that of a whole store, and
`page` makes it one HTML file.
"""
