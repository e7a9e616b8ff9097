"""Rules written by users: limits, rates, deviations and expressions over sensors, beside the model. Pure.

text -> syntax.parse -> tree -> binding.bind -> function of the tick's signals -> Timers -> RuleIncidents
"""
