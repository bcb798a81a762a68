"""Phones, over adb: a C++ runner measures there, and the record is made here. docs/explanation/phones.md says how."""

__all__ = ["benchmark", "cooldown", "detect", "requirements", "run"]
