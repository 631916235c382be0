"""What a host can do: its system, its tools and its GPUs, asked without trusting any of them to answer."""
