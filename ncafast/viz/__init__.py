"""Pictures and animations that several tasks share. Needs the packages of `pip install ncafast[tasks]`."""
