"""The alignment tasks of section 4.1 in their three families."""

from gream_ext.corpus.tasks.preference import PREFERENCE
from gream_ext.corpus.tasks.semantic import SEMANTIC
from gream_ext.corpus.tasks.sequential import SEQUENTIAL

TASKS = {task.name: task for task in (*SEQUENTIAL, *SEMANTIC, *PREFERENCE)}
