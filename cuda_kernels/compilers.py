"""The three compilers that turn a kernel's source into machine code.

``Nvrtc`` (NVIDIA's compiler as a library) and ``Nvcc`` make a cubin for a GPU's architecture, with
no GPU or driver needed; ``HostCompiler`` makes a library for the emulator. ``build`` calls them.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import os
import re
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent
INCLUDE = PACKAGE / "include"
# Inside the package once it is installed, beside it in a checkout.
_INSTALLED, _CHECKOUT = PACKAGE / "emulator", PACKAGE.parent / "csrc" / "emulator"
EMULATOR = _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT


class BuildError(RuntimeError):
    """A kernel that cannot be built: one line that says why, the source line, then the log.

    ``log`` is everything that the compiler wrote.
    """

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log


class Compiler(ABC):
    """Compiles for some targets: ``sm_90`` and the like, or ``host``."""

    identity: str
    """Name and version, down to what could change the machine code."""

    @abstractmethod
    def options(self, target: str, macros: tuple[str, ...] = ()) -> list[str]:
        """The options for ``target``, without files, with ``macros`` (``NAME=VALUE``) defined."""

    @abstractmethod
    def compile(self, source: Path, target: str, output: Path, macros: tuple[str, ...] = ()) -> str:
        """Write ``output``; the compiler's warnings. Raises BuildError."""


def find(target: str) -> Compiler:
    """The compiler for ``target``; BuildError says what to install if there is none."""
    if target == "host":
        return host_compiler()
    if not re.fullmatch(r"sm_\d+[af]?", target):
        raise BuildError(f"{target}: not an architecture; they are written like sm_90")
    return cuda_compiler()


@functools.cache
def host_compiler() -> Compiler:
    command = os.environ.get("CXX") or "g++"
    if path := shutil.which(command):
        return HostCompiler(path)
    raise BuildError(f"{command}: not found; the emulator needs a C++20 compiler (g++ 11 or later)")


@functools.cache
def cuda_compiler() -> Compiler:
    try:
        return Nvrtc()
    except (ImportError, OSError, RuntimeError) as error:  # not there, or a part of it is missing
        reason = str(error).partition("\n")[0]
    if path := shutil.which("nvcc"):
        return Nvcc(path)
    raise BuildError(
        f"no CUDA compiler ({reason}); install the packages cuda-bindings and nvidia-cuda-nvrtc, "
        "or put nvcc on the PATH"
    )


class HostCompiler(Compiler):
    """g++ or clang++, for the processor of this machine."""

    def __init__(self, command: str) -> None:
        self._command = command
        # The macros tell the compiler's version and every instruction set that it may use.
        macros = _run([command, "-march=native", "-dM", "-E", "-x", "c++", os.devnull])
        self.identity = f"{Path(command).name} {hashlib.sha256(macros.encode()).hexdigest()}"

    def options(self, target: str, macros: tuple[str, ...] = ()) -> list[str]:
        # No contraction: a product is fused with a sum where the kernel says fmaf, only there.
        arithmetic = ["-O2", "-march=native", "-ffp-contract=off", "-fno-math-errno"]
        warnings = ["-Wall", "-Wextra", "-Wno-unknown-pragmas"]
        return [
            "-std=c++20",
            "-shared",
            "-fPIC",
            "-fvisibility=hidden",
            *arithmetic,
            *warnings,
            *_defined(macros),
        ]

    def compile(self, source: Path, target: str, output: Path, macros: tuple[str, ...] = ()) -> str:
        include = [f"-I{INCLUDE}", f"-I{EMULATOR}"]
        command = [self._command, *self.options(target, macros), *include, "-o", str(output)]
        what = f"{Path(self._command).name} for the {target}"
        return _compile([*command, "-x", "c++", str(source)], source, what)


class Nvcc(Compiler):
    """The compiler of the CUDA toolkit."""

    def __init__(self, command: str) -> None:
        self._command = command
        self.identity = " ".join(_run([command, "--version"]).splitlines()[-2:])

    def options(self, target: str, macros: tuple[str, ...] = ()) -> list[str]:
        return [f"-arch={target}", "-cubin", "-std=c++20", "-lineinfo", *_defined(macros)]

    def compile(self, source: Path, target: str, output: Path, macros: tuple[str, ...] = ()) -> str:
        command = [self._command, *self.options(target, macros), f"-I{INCLUDE}", "-o", str(output)]
        return _compile([*command, "-x", "cu", str(source)], source, f"nvcc for {target}")


class Nvrtc(Compiler):
    """CUDA's compiler as a library, from the packages cuda-bindings and nvidia-cuda-nvrtc."""

    def __init__(self) -> None:
        self._nvrtc = nvrtc = importlib.import_module("cuda.bindings.nvrtc")
        major, minor = self._call(nvrtc.nvrtcVersion())
        self.identity = f"NVRTC {major}.{minor}"

    def options(self, target: str, macros: tuple[str, ...] = ()) -> list[str]:
        return [f"-arch={target}", "-std=c++20", "-lineinfo", *_defined(macros)]

    def compile(self, source: Path, target: str, output: Path, macros: tuple[str, ...] = ()) -> str:
        nvrtc, call = self._nvrtc, self._call
        options = [option.encode() for option in (*self.options(target, macros), f"-I{INCLUDE}")]
        options.append(f"-I{source.parent}".encode())
        (program,) = call(
            nvrtc.nvrtcCreateProgram(source.read_bytes(), str(source).encode(), 0, [], [])
        )
        try:
            (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
            log = self._text(program, nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog)
            if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
                raise _failure(source, f"NVRTC for {target}", log.decode(errors="replace"))
            cubin = self._text(program, nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN)
        finally:
            nvrtc.nvrtcDestroyProgram(program)
        output.write_bytes(cubin)
        return log.rstrip(b"\0\n").decode(errors="replace")

    def _call(self, result: tuple[Any, ...]) -> tuple[Any, ...]:
        status, *values = result
        if status != self._nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise RuntimeError(f"NVRTC failed: {status}")
        return tuple(values)

    def _text(self, program: Any, size_of: Callable[..., Any], get: Callable[..., Any]) -> bytes:
        (size,) = self._call(size_of(program))
        buffer = bytes(size)  # the binding writes into it
        self._call(get(program, buffer))
        return buffer


def _defined(macros: tuple[str, ...]) -> list[str]:
    return [f"-D{macro}" for macro in macros]


def _run(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _compile(command: list[str], source: Path, what: str) -> str:
    result = subprocess.run(command, capture_output=True, text=True)
    log = result.stderr + result.stdout
    if result.returncode != 0:
        raise _failure(source, what, log)
    return log.strip()


SHOWN_LINES = 20
"""Of a compiler's messages that point to no line of source."""

_LOCATION = re.compile(r"^(?P<file>[^\s:(][^:(\n]*)[:(](?P<line>\d+)[^\n]*?error[ :]", re.MULTILINE)


def _failure(source: Path, what: str, log: str) -> BuildError:
    """The first error of ``log`` with the line of source that it speaks of."""
    message = f"{source.name}: {what} refuses it"
    if found := _LOCATION.search(log):
        file, number = Path(found["file"]), int(found["line"])
        first = log[found.start() : log.find("\n", found.end())]
        lines = file.read_text(errors="replace").splitlines() if file.is_file() else []
        message = f"{first} ({what})"
        if number <= len(lines):
            message += f"\n{number:6} | {lines[number - 1]}"
    else:
        message += "\n" + "\n".join(log.strip().splitlines()[:SHOWN_LINES])
    return BuildError(message, log)
