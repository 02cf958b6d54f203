"""Ready-made jobs on top of the models: data, loss, metrics and pictures, one folder per task.

A task needs the extra packages of ``pip install ncafast[tasks]``; importing ``ncafast`` alone never
does.
"""

# The command line, cross-validation and search follow from this, and from the options of each task.
TASKS = {
    name: f"ncafast.tasks.{name}.task:TASK"
    for name in ("mednca", "classification", "texture", "growing", "selfclassify")
}
