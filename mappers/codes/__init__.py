"""Codes that were seen and not understood: counted, compared with shipped concepts, written as stubs to fill in.

For the inside of the hospital only: displays and texts are as the hospital wrote them.
"""
