"""Arrays in, arrays out: every function beside its gradient, named as in torch.nn.functional.

Each differentiable ``F.name(*args, **options)`` has ``F.name_vjp(g, *args, **options)``, which
takes the gradient `g` of the value to the gradients of the array arguments, in their order.
"""

from fconv.functional import (
    activation,
    affine,
    attention,
    convolution,
    lookup,
    loss,
    masking,
    normalization,
    pooling,
    resampling,
    response,
    sample_norm,
    shape,
)
from fconv.functional.activation import *
from fconv.functional.affine import *
from fconv.functional.attention import *
from fconv.functional.convolution import *
from fconv.functional.lookup import *
from fconv.functional.loss import *
from fconv.functional.masking import *
from fconv.functional.normalization import *
from fconv.functional.pooling import *
from fconv.functional.resampling import *
from fconv.functional.response import *
from fconv.functional.sample_norm import *
from fconv.functional.shape import *

__all__: list[str] = []
__all__ += activation.__all__
__all__ += affine.__all__
__all__ += attention.__all__
__all__ += convolution.__all__
__all__ += lookup.__all__
__all__ += loss.__all__
__all__ += masking.__all__
__all__ += normalization.__all__
__all__ += pooling.__all__
__all__ += resampling.__all__
__all__ += response.__all__
__all__ += sample_norm.__all__
__all__ += shape.__all__
