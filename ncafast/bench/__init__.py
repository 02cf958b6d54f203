"""The benchmark: honest numbers against what a user would pick instead. `ncafast bench`, `python -m bench`.

cases x providers x modes; parity is checked before anything is timed, times are taken in turns, results are CSV rows.
"""
