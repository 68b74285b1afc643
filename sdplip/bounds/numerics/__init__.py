"""Linear algebra of the methods: the interior-point iteration, how its matrices are held, recursions. Nothing is trusted."""
