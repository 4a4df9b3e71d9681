"""When something happens again: pure, without a database or a clock."""

from aiotaskstore.recurrence.cron import Cron
from aiotaskstore.recurrence.day_of_week import DayOfWeek
from aiotaskstore.recurrence.dumping import as_recurrence, dump_recurrence, load_recurrence
from aiotaskstore.recurrence.every import Every
from aiotaskstore.recurrence.following import following
from aiotaskstore.recurrence.frequency import Frequency
from aiotaskstore.recurrence.function_recurrence import FunctionRecurrence, RecurrenceFunction
from aiotaskstore.recurrence.month_of_year import MonthOfYear
from aiotaskstore.recurrence.once import Once
from aiotaskstore.recurrence.recurrence import Recurrence
from aiotaskstore.recurrence.recurrence_rule import RecurrenceRule

__all__ = [
    "Cron",
    "DayOfWeek",
    "Every",
    "Frequency",
    "FunctionRecurrence",
    "MonthOfYear",
    "Once",
    "Recurrence",
    "RecurrenceFunction",
    "RecurrenceRule",
    "as_recurrence",
    "dump_recurrence",
    "following",
    "load_recurrence",
]
