"""The flight recorder: what a coordinator was told and what it met, kept for the last minutes, and played again."""
