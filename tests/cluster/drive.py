"""The first part's program, killed in the middle of a step, which goes on in its next life."""

from __future__ import annotations

import json
import os
import pathlib

import splitop
from tests.cluster.resumed import BOTH, Training

LIVES = 8


def drive(folder: pathlib.Path, life: int, timeout: float) -> None:
    """Goes on from the checkpoint for a step, saves, and dies in the one after that.

    Args:
        folder: Where the checkpoints are.
        life: Says after which operation it dies.
        timeout: Of the cluster.
    """
    spec = json.loads(os.environ["TF_CONFIG"])["cluster"]
    cluster = splitop.cluster.Cluster(spec, "first", timeout=timeout)
    training = Training(cluster, folder, "stash")
    session, step = training.resume()
    training.step(session, step, two_runs=bool(life % 2))
    training.save(session, step + 1)
    work = training.work(BOTH)
    last = work[int((life + 0.5) / LIVES * len(work))]
    training.run(session, step + 1, BOTH, training.death_after(last, "first"))
