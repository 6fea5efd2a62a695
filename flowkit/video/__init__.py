"""A file or a folder of frames: its facts, then its frames with their times."""
