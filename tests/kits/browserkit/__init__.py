"""A real Chromium that looks at the dashboard: how it is started, what a person does in it, what axe finds."""

from browserkit.api import get
from browserkit.chromium import chromium
from browserkit.viewer import PATIENCE_MS, VIEWS, Viewer
from browserkit.violations import violations

__all__ = ["PATIENCE_MS", "VIEWS", "Viewer", "chromium", "get", "violations"]
