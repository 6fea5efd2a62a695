"""A file or a folder of frames: what it is, then its frames with their times."""
