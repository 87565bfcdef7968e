"""Jobs of an environment: what runs, how far it is, and requests to it."""

from __future__ import annotations

from pend_storage._jobs.reporter import JobReporter
from pend_storage._jobs.requests import read_jobs, request
from pend_storage._jobs.running import running_job
from pend_storage._model.jobs import JOBS_META, Job

__all__ = ["JOBS_META", "Job", "JobReporter", "read_jobs", "request", "running_job"]
