"""The scales of networks and schedules, from seconds to a GPU's days: their names, declared once.

What a scale trains with stands in `training.scales`, the size of a method's network in the method's presets.
"""

SCALES = ("debug", "small", "mini", "paper")

# scale without networks of its own -> the scale whose arguments a method takes there
ARGUMENTS_OF = {"mini": "small"}
