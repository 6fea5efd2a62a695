"""Folders of raw frames: stores out to TSN, denseflow, mmaction2, .flo, .npy and webdataset, and in."""
