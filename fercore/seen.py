"""Whether images that a network is tested on are among those that it was trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fercore.answers import StudyAnswers
from fercore.data.dataset import Dataset
from fercore.errors import FercoreError
from fercore.run_directory import RunDirectory
from fercore.words import counted


def warning(network: Path, dataset: Dataset, rows: np.ndarray) -> str | None:
    """What a tester should know, by the manifests of the study in whose folder a network lies.

    Images are told by their pixels, whatever the dataset and its split are called. Twins that the
    study itself kept in its test part are not counted.

    Args:
        network: the file.
        dataset: that it is tested on.
        rows: which images of it, int64.

    Returns:
        A sentence; None where no such image is tested, or no study is there to tell.
    """
    directory = RunDirectory.around(network)
    if directory is None:
        return None
    study = StudyAnswers(directory)
    known = (directory.splits / f"{dataset.name}.csv").exists()
    try:
        trained = study.trained_on(network.absolute().parent.name)
        held_out = study.held_out(dataset.name) if known else frozenset[str]()
    except FercoreError as error:
        return f"whether the network was trained on tested images cannot be said: {error}"
    seen = sum(dataset.sha256[row] in trained - held_out for row in rows)
    if not seen:
        return None
    mend = f"; test the others with --splits {directory.splits}" if known else ""
    images = counted(len(rows), "tested image")
    return f"the network was trained on {seen:,} of {images}, which flatters its accuracy{mend}"
