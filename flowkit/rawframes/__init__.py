"""Raw frames of TSN, denseflow, mmaction2, .flo, .npy and webdataset: export and import."""
