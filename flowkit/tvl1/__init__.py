"""TV-L1 optical flow: parameters, the reference twin, the engines and their choice."""
