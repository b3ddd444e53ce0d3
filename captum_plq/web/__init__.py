"""A page, served on one's own machine, that says of a photo whether to take it again, and why.

Needs the optional group ``web`` (``pip install 'captum-plq[web]'``) as soon as the application is
made; importing this does not.
"""

from captum_plq.web.app import create_app
from captum_plq.web.assess import PhotoAssessor, load_assessor
from captum_plq.web.refusal import RefusedError
from captum_plq.web.settings import WebSettings, is_loopback

__all__ = [
    "PhotoAssessor",
    "RefusedError",
    "WebSettings",
    "create_app",
    "is_loopback",
    "load_assessor",
]
