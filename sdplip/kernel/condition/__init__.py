r"""What is proven of one layer: $W^\top W \preceq c^2 T$ with a diagonal T, dense and by convolutions, and residual layers."""
