"""Records of made-up tasks, and places where stores of them lie, for the tests of what lasts."""
