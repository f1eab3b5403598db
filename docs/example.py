"""From FASTA to kin in Python, on a simulated community; runs in a minute or two and in CI.

Every step also is a command: see docs/commands.md.
"""
