"""How a convolution is computed: a plan for each shape, made by the first engine that offers one."""
