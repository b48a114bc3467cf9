"""fercore's CUDA kernels, and how to build, launch and cost them; usable without the engine.

    from cuda_kernels import linear
    from cuda_kernels.gpu import CupyRuntime          # or: from cuda_kernels.emulated import ...
    runtime = CupyRuntime()                           # EmulatedRuntime(), on any machine
    linear.forward(runtime, x, weight, bias, out)     # CuPy arrays, or from_dlpack of any others

To add a version of a kernel: write ``KERNEL(name, threads, parameters...)`` with the parameters of
its siblings into the operation's ``.cu``; add a ``Kernel`` with the next version number to
``KERNELS`` in the ``.py`` beside it, with its idea in one line, the problems it refuses and the
opcodes that make it fast. Tests find it there: they hold every version to the gates in three
thread orders, compile it for every architecture and look at its machine code.

To add an operation: a ``.cu`` and a ``.py`` like those, whose functions take a runtime and buffers,
its twin in ``numba_kernels/``, and a test file. Nothing else lists them.
"""
