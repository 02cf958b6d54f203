"""Ready-made jobs on top of the models: data, loss, metrics and pictures, one folder per task.

A task needs the extra packages of ``pip install ncafast[tasks]``; importing ``ncafast`` alone never
does.

Attributes:
    TASKS: name -> package. A task's package has a module `options` with its dataclasses and a module `task` with its
        `Task` object, TASK. The command line, cross-validation and search follow from these.
"""

TASKS = {name: f"ncafast.tasks.{name}" for name in ("mednca", "classification", "texture", "growing", "selfclassify")}
