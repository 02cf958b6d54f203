"""Ready-made jobs on top of the models: data, loss, metrics and pictures, one folder per task.

A task needs the extra packages of ``pip install ncafast[tasks]``; importing ``ncafast`` alone never
does.
"""

TASKS = {
    "mednca": "ncafast.tasks.mednca.task:TASK",
    "classification": "ncafast.tasks.classification.task:TASK",
    "growing": "ncafast.tasks.growing.task:TASK",
    "selfclassify": "ncafast.tasks.selfclassify.task:TASK",
    "texture": "ncafast.tasks.texture.task:TASK",
}
