"""What a task asks of a network, of its data and of who reads its scores.  One file a task, here or in a plugin.

A task is one class.  What is true of it whatever the data - its targets, how its metrics are written, the heads that
serve it - are attributes of the class, which data, networks, memory and reports ask for; its loss and metrics are
methods of an instance, made for a number of outputs and axes.  torch is imported when one of these is called, not when
the task is.
"""

from typing import cast

from medsearch.core.registry import Registry
from medsearch.tasks.targets import ClassLabels, ClassMaps, Images, Numbers, Target
from medsearch.tasks.task import Metric, Task

TASKS = Registry("task", "medsearch.tasks.kinds")


def task_type(name: str, *, where: str = "task") -> type[Task]:
    """The task called ``name``; SpaceError at ``where`` for one that nobody registered."""
    return cast(type[Task], TASKS.find(name, where=where))


def make_task(name: str, *, outputs: int, dims: int) -> Task:
    """The task called ``name`` for a network with this many outputs and spatial axes."""
    return task_type(name)(outputs=outputs, dims=dims)


def head_tasks(name: str) -> tuple[str, ...]:
    """The tasks whose heads serve the one called ``name``: it, and the one that it says it is like."""
    like = task_type(name).HEAD_LIKE
    return (name, like) if like else (name,)


__all__ = [
    "TASKS",
    "ClassLabels",
    "ClassMaps",
    "Images",
    "Metric",
    "Numbers",
    "Target",
    "Task",
    "head_tasks",
    "make_task",
    "task_type",
]
