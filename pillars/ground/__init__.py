"""What everything stands on: errors, events, clock, loop and settings; standard library only."""
