"""Explanations of the variables of a patient: the rule, the resources used and those considered, the assumptions.

For the inside of the hospital only: it names resources by their own ids.
"""
