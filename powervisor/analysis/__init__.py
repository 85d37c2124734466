"""What a guest does, looked at from outside while it runs: traces, timelines, profiles and coverage of its code."""
