#!/usr/bin/env bash
# Everything that a GPU can tell about this checkout, in one command and within nine minutes:
# builds, tests, the whole step and every kernel against PyTorch, and the sanitizers.
# `--dry-run` rehearses it on the emulator. Needs no network and installs nothing.
cd "$(dirname "$0")/.." && exec "${PYTHON:-python3}" -m bench.device_check "$@"
