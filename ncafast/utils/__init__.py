"""What training, pictures and tasks share and none of them owns: progress, text tables, option checks, output files."""
