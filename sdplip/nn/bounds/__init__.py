"""Lipschitz bounds of torch modules: the tree, the dispatch that refuses, one file of rules for each kind of module."""
