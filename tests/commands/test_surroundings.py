"""Errors that the environment causes, told in a line."""

from xql_jax.commands.surroundings import told

import ctypes

import pytest


def test_ctrl_c_within_c_code_is_no_error_of_the_surroundings(monkeypatch):
    """Ctypes quotes a KeyboardInterrupt in an ArgumentError, here of OpenGL's."""
    monkeypatch.setenv("MUJOCO_GL", "egl")

    class Interrupted:
        @classmethod
        def from_param(cls, value):
            raise KeyboardInterrupt

    function = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda value: value)
    function.argtypes = (Interrupted,)
    namespace = {"__name__": "OpenGL", "function": function}
    with pytest.raises(ctypes.ArgumentError, match="KeyboardInterrupt") as caught:
        exec("function(1)", namespace)
    assert told(caught.value) is None
    caught.value.args = ("no such library",)
    assert "OpenGL does not work with that (no such library)" in str(told(caught.value))
