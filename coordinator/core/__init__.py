"""The coordinator's decisions: events in, effects out, time in the event."""
