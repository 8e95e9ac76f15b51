"""The dispatcher's core: events in, effects out. It knows no clock, no chance, no socket and no disk."""
