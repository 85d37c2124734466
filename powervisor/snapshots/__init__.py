"""Files that hold a machine at one moment, knowing nothing of machines."""
