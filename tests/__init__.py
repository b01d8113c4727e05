"""The tests. They mirror the modules of the package; what several of them need stands here beside conftest.py."""
