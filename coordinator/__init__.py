"""The coordinator process: a sans-IO core that decides, and a shell that journals and sends."""
