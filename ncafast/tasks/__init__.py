"""Ready-made jobs on top of the models: data, loss, metrics and pictures, one folder per task.

A task's package has a function for each of its commands, which takes one dataclass of options; the command line builds
its own options from these. The extra packages of ``pip install ncafast[tasks]`` are imported when a function is called,
so that `--help` needs none of them.

Attributes:
    TASKS: name -> package. A task's package has a module `options` with its dataclasses and a module `task` with its
        `Task` object, TASK. The command line, cross-validation and search follow from these.
"""

TASKS = {
    name: f"ncafast.tasks.{name}"
    for name in ("mednca", "segmentation", "depth", "classification", "texture", "growing", "selfclassify")
}
