"""An upright, symmetrical face at 112×112: eye corners (right, then left), base of the nose.

The eyes are 34 px apart, at (38.5, 53) and (72.5, 53); from them to the nose it is 26 px.
"""

import numpy as np

POINTS = np.array([(79.5, 53.0), (65.5, 53.0), (31.5, 53.0), (45.5, 53.0), (55.5, 79.0)])
