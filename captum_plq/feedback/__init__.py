"""From quality to a verdict on a photo, and reasons that a person understands."""

from captum_plq.feedback.feedback import Feedback, Reason, Verdict, give_feedback
from captum_plq.feedback.measures import MEASURES, ImageMeasures, measure_image
from captum_plq.feedback.rules import GROUPS, RULES, Condition, Rule, quantities

__all__ = [
    "GROUPS",
    "MEASURES",
    "RULES",
    "Condition",
    "Feedback",
    "ImageMeasures",
    "Reason",
    "Rule",
    "Verdict",
    "give_feedback",
    "measure_image",
    "quantities",
]
