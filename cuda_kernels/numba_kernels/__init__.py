"""Every operation of ``cuda_kernels`` once more in Numba CUDA, fp32: the readable second opinion.

A module here has the functions of its namesake in ``cuda_kernels``, with the same arguments, so a
backend can call either. The kernels share nothing with those: they follow the definitions (direct
convolutions, batch statistics in two passes, geometry in float64), one idea each, and are plain
rather than fast. Only what Numba's simulator can run is used: shared memory and barriers, no
shuffles and no atomics. Every sum has one order, so the same call gives the same bits.

The first comment in a kernel says what a thread owns.
"""
