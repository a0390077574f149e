"""Hydra imports every module of this namespace package and takes the plug-ins it finds there."""

from gream_ext.plugins.hydra import RecipesSearchPath

__all__ = ["RecipesSearchPath"]
