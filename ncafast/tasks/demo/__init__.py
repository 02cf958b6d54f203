"""`ncafast demo`: the Med-NCA task end to end on a brain template that comes inside a Python package, and its speed.

Nothing here trains or draws by itself: it prepares data, calls the task as a user would, and measures.
"""

from __future__ import annotations

from ncafast.tasks.demo.config import DemoConfig

__all__ = ["DemoConfig", "run"]


def run(config: DemoConfig) -> None:
    """Run the demo as configured; see `ncafast.tasks.demo.job.run`."""
    try:
        import nilearn  # noqa: F401 - looked for first, so that its absence is said before any work

        from ncafast.tasks.demo import job
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("ncafast"):
            raise
        raise ModuleNotFoundError(
            f"the demo needs the package {error.name!r}; run: pip install 'ncafast[demo]'",
            name=error.name,
        ) from error
    job.run(config)
