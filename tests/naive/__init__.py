"""Definitions as plain loops over single elements: slow, and clear enough to trust at a glance."""

from tests.naive.activation import *
from tests.naive.arithmetic import *
from tests.naive.attention import *
from tests.naive.convolution_transpose import *
from tests.naive.loss import *
from tests.naive.normalization import *
from tests.naive.optimizers import *
from tests.naive.padding import *
from tests.naive.pooling import *
from tests.naive.rearranging import *
from tests.naive.resampling import *
from tests.naive.sampling import *
from tests.naive.shape import *
from tests.naive.windows import *
