"""Slow, obvious numpy references of the kernels, bit-equal to them, and hypothesis strategies.

One file an op. Shipped, so that whoever ports or extends a kernel has an oracle. Nothing in the
package imports this; `strategies` needs hypothesis.
"""
