"""fercore's CUDA kernels, and how to build, launch and cost them; usable without the engine.

    from cuda_kernels import linear
    from cuda_kernels.gpu import CupyRuntime          # or: from cuda_kernels.emulated import ...
    runtime = CupyRuntime()                           # EmulatedRuntime(), on any machine
    linear.forward(runtime, x, weight, bias, out)     # CuPy arrays, or from_dlpack of any others

README.md shows how to use them and how to add a version of one. To add an operation: a ``.cu`` and
a ``.py`` like those that are there, whose functions take a runtime and buffers, its twin in
``numba_kernels/``, and a test file; nothing else lists them.
"""
