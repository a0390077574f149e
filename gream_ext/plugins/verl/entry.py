"""The entry point in the group ``verl.plugins``.

verl loads it at the end of ``import verl``, in every process, calls nothing, and hides what goes
wrong. So importing this module is what registers; `gream_ext.plugins.verl.failures` keeps errors.
"""

from gream_ext.plugins.verl import register

register()
