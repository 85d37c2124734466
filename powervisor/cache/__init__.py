"""What is kept on disk from run to run, knowing nothing of Power: whoever keeps something gives it a key that changes
with everything it depends on.

Whatever happens to these files - another process, a kill, a full disk, damage - costs time, never a machine.
"""
