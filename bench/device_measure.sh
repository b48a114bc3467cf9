#!/usr/bin/env bash
# Everything that only a GPU can decide about this checkout, in one command and within nine minutes:
# the step and each kernel against PyTorch and the floor, fusions, equal bits, a study, a profile.
# `--dry-run` rehearses it on the emulator. Needs no network and installs nothing.
cd "$(dirname "$0")/.." && exec "${PYTHON:-python3}" -m bench.device_measure "$@"
