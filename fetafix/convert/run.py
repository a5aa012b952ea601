"""A child process that runs one converter: `python -m fetafix.convert.run JOB.json ANSWER.json`."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path

import msgspec

from fetafix.convert.guard import Answer, Job
from fetafix.files import replacing

_MESSAGE = 1500


def main(job_path: str, answer_path: str) -> None:
    """Do the job and say what came of it; an exception of the converter is an answer, too."""
    job = msgspec.json.decode(Path(job_path).read_bytes(), type=Job)
    module, _, function = job.function.partition(":")
    try:
        home = module if "." in module else f"fetafix.convert.{module}"
        answer = getattr(importlib.import_module(home), function)(job) or Answer()
    except Exception as error:  # a converter may raise anything: it is a result about this route
        traceback.print_exc()
        answer = Answer(error=told(error))
    with replacing(Path(answer_path)) as temporary:
        temporary.write_bytes(msgspec.json.encode(answer))


def told(error: BaseException) -> str:
    """The type and the message of an error, not longer than a report bears."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text[:_MESSAGE]}{' …' if len(text) > _MESSAGE else ''}".rstrip(": ")


if __name__ == "__main__":
    main(*sys.argv[1:])
