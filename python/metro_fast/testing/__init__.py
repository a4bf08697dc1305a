"""Slow, obvious numpy references of the kernels, bit-equal to them, and hypothesis strategies.

There is one file for each op. They are shipped so that anyone who ports or extends a kernel can
test against them. No other part of the package imports this; `strategies` needs hypothesis.
"""
