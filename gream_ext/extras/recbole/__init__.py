"""Baselines by RecBole, in an environment of its own: ``gream baselines recbole`` runs this room as a program there.

    python -m gream_ext.extras.recbole JOB

``JOB`` is a folder that `gream_ext.extras.recbole.job` wrote; what comes out is read by the same module. This room
imports RecBole, torch and numpy, and of ours only the metrics.
"""
