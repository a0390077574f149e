"""The two inference modes and the engines they run on."""
