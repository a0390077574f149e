"""Baselines by RecBole, in an environment of its own: ``gream baselines recbole`` runs `training` as a program there.

`job` writes the folder that it works in, and reads what comes out.
"""
