"""Count the words of the text files in a folder, each as a job in a SQLite file. Stop it when you like: the next run goes on.

python count_words.py FOLDER [DATABASE]
"""

import sys
from pathlib import Path

from sqlalchemy import Engine, create_engine

from jobstate import Context, JobFailed, Jobs
from jobstate.adapters.sqlalchemy import SQLAlchemyRepository
from jobstate.worker import run_attempt

ENDPOINT = "/count"


def count(request: dict[str, str], context: Context) -> dict[str, int]:
    """The handler: a file that is gone, or is no text, is a failure for its user to read."""
    try:
        return {"words": len(Path(request["path"]).read_text().split())}
    except (OSError, UnicodeDecodeError) as error:
        raise JobFailed("unreadable", str(error)) from error


def jobs_in(database: Engine) -> Jobs:
    """The jobs in a database, which may be empty."""
    repository = SQLAlchemyRepository(database)
    repository.create_schema()
    return Jobs(repository)


def enlist(jobs: Jobs, folder: Path) -> None:
    """One job for each file as it is now: the same file again is the same job, a changed one is another."""
    ours = jobs.for_organization("me")
    for path in sorted(folder.glob("*.txt")):
        as_it_is = f"{path.name} {path.stat().st_mtime_ns} {path.stat().st_size}"
        ours.create(ENDPOINT, {"path": str(path)}, metadata={"file": path.name}, idempotency_key=as_it_is)


def work(jobs: Jobs) -> None:
    """Until nothing is due. A job that a killed run held is found by the sweep, once its lease is over."""
    jobs.sweep()
    while attempts := jobs.take():
        for attempt in attempts:
            run_attempt(attempt, count)


def lines(jobs: Jobs) -> list[str]:
    """What is known of each file."""
    page = jobs.list(limit=1000, order="asc", include_response=True)
    return [f"{job.metadata['file']}: {job.response.body['words'] if job.response else job.status}" for job in page.data]


if __name__ == "__main__":
    folder, database = Path(sys.argv[1]), Path((sys.argv[2:] or ["words.sqlite"])[0])
    engine = create_engine(f"sqlite:///{database}")
    jobs = jobs_in(engine)
    enlist(jobs, folder)
    work(jobs)
    print(*lines(jobs), sep="\n")
    engine.dispose()
