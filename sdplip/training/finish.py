"""What came of a run, and what is proven of its weights."""

import time
from dataclasses import replace

from sdplip.errors import SdplipError
from sdplip.robustness.certification import certify_accuracy
from sdplip.robustness.regression import certify_regression
from sdplip.training import run as folder
from sdplip.training.build import tolerance_of
from sdplip.training.job import Job
from sdplip.training.run import RunSummary


def summarised(job: Job, finished: bool) -> RunSummary:
    """What came of it; a finished run is proven on the validation split and marked as finished."""
    counters = job.counters
    summary = RunSummary(
        folder=str(job.out),
        finished=finished,
        steps=job.step,
        epochs=job.step / job.batches.steps,
        seconds=job.seconds,
        images_per_second=job.rate,
        selected=counters.selected if counters.clean is not None else job.step,
        eps=job.config.train.eps,
        clean=counters.clean,
        certified=counters.certified,
    )
    if finished and job.members.first:
        summary = _proven(job, summary)
        folder.write_summary(job.out, summary)
    job.close()
    return summary


def _proven(job: Job, summary: RunSummary) -> RunSummary:
    """The summary with what `sdplip.robustness` proves of the selected weights on the validation split."""
    held = job.data.validation
    if held is None:
        return replace(summary, unproven="There is no validation split.")
    if job.weights is not None:
        job.model.load_state_dict(job.weights)
    begin = time.monotonic()
    try:
        if job.data.regression:
            tolerance = tolerance_of(job.config.loss)
            proof = certify_regression(job.model.eval(), held.images, held.labels, tolerance=tolerance)
        else:
            proof = certify_accuracy(job.model.eval(), held.images, held.labels)
    except SdplipError as error:
        return replace(summary, unproven=str(error))
    return replace(
        summary,
        proven_clean=proof.clean,
        proven_certified=proof.certified(summary.eps),
        bound=proof.bound.value,
        proof_seconds=time.monotonic() - begin,
    )
