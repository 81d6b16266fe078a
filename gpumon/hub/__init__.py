"""The hub: takes reports of all nodes, judges their liveness, tells whoever looks."""
