"""What a computer, a Jetson or a phone says of itself: read without privileges, and parsed strictly.

`linux.read_machine` reads this machine, `jetson_board` and `jetson_sensors` a Jetson, `android_dumpsys` parses what a
phone prints, and `records` holds what was read. docs/reference/jetson.md lists what a Jetson says.
"""

__all__ = [
    "android_dumpsys",
    "elf",
    "emulation",
    "jetson_board",
    "jetson_sensors",
    "jetson_tegrastats",
    "linux",
    "records",
    "sampler",
    "sysfs",
]
