"""What a task asks of a network: its loss, its metrics, and which of them decides.  One file a task."""

from medsearch.core.registry import Registry

TASKS = Registry("task", "medsearch.train.tasks")
