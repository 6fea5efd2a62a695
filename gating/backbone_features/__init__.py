"""Features of clips and raw videos by the backbones of two streams: of clips, segments or windows."""
