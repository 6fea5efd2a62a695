"""The CUDA engine: NVRTC-compiled kernels launched through CuPy, batched over pairs."""
