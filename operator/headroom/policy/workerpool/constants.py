"""Every number of the worker policy that a spec does not set, with its source; all are starting points to calibrate."""

PROBE_SECONDS = 5.0
"""Time between two samples. A direct SQL probe every 5 s saves about 75 s of metrics pipeline against HPA + adapter."""
URGENT_PROBE_SECONDS = 1.0
"""The same while lag is above its target: then a decision is worth more than a statement a second costs."""
STALE_AFTER_SECONDS = 15.0
"""A sample older than three probes says nothing about the present."""

RATE_WINDOW_SECONDS = 60.0
"""Window of the arrival rate: 5 % error at 7 arrivals a second (Poisson), a minute of memory after a change."""
CHANGE_SPANS = 3
CHANGE_SIGNIFICANCE = 3.0
"""The rate has risen if the middle one of the three newest spans is 3 standard deviations above the window's rate."""
JUMP_LEAST_SPANS = 2
JUMP_SHARE = 0.8
"""The rate has jumped if two levels leave less than this share of what a line leaves unexplained; the newer level lasts
at least two spans. Two levels have one more number to choose, for which BIC asks 12 ** (-1 / 12) over twelve."""
TREND_WINDOW_SECONDS = 120.0
"""Window in which arrivals must have grown: at least twelve intervals, else chance alone makes slopes. The rate's own,
shorter window says by how much they grow: growth that has ended leaves it sooner."""
TREND_LEAST_INTERVALS = 12
TREND_SIGNIFICANCE = 3.0
"""Standard errors a slope must be above zero to count as growth; 2 would see growth in steady arrivals too often."""
GAP_FACTOR = 3.0
"""An interval longer than this many medians of its window is a gap: what arrived in it is backlog, not rate."""
BULK_FLOOR = 10
BULK_LEAST_INTERVALS = 4
"""One interval of at least four that holds more than half of a window's arrivals, and more than ten rows, is a bulk
insert: the backlog already counts it, and it is not a rate that lasts."""

SERVICE_TIMES_LEAST = 5.0
"""The service rate is measured over at least this many service times."""
SERVICE_WINDOW_LEAST_SECONDS = 30.0
SERVICE_WINDOW_MOST_SECONDS = 600.0
PRIOR_JOBS = 5
"""Weight of the last good service rate beside what is measured, in jobs: (k + 5) / (busy + 5/m0)."""
KNOWN_AFTER_JOBS = 20
"""Ended jobs after which a service rate counts as measured: relative error CV/sqrt(20), about 22 %."""
SIGHTINGS_LEAST = 20.0
SIGHTINGS_ENOUGH = 150.0
"""Busy time is an average of samples: its error is 1/sqrt(busy slots seen), 22 % of 20 and 8 % of 150."""

SERVICE_CV_SQUARED = 1.0
"""Assumed squared coefficient of variation of service times: 1 is exponential, a guess until it is measured."""
DEFAULT_LEAD_SECONDS = 30.0
"""Lead time until a start was measured: the image is on the node, interpreter and library have to load."""
LEAST_LEAD_SECONDS = 1.0
MOST_LEAD_SECONDS = 300.0
"""Bounds of a measured lead time; Flink's autoscaler assumes 5 minutes of restart as its default."""
LEAD_OUTLIER_FACTOR = 4.0
"""A pod that became ready this many times later than the median was unready in between: it says nothing of starts."""

LEARNING_STEP_SECONDS = 30.0
"""While nothing is known, the pool doubles at most this often."""
LEARNING_MOST_WORKERS = 4
"""... and up to this many workers, until 20 jobs have ended."""

DEADBAND_WORKERS = 1
DEADBAND_SHARE = 0.1
"""Differences below max(1, 10 %) are not worth a restart of anything; HPA's tolerance is 10 % too."""
DOWN_STEP_SECONDS = 30.0
"""Least time between two steps down: the effect of a step must show before the next one."""
COVERAGE_GAP_SECONDS = 60.0
"""A longer gap than this splits a row of wants in two: what was wanted in the gap is unknown."""
MOVES_KEPT_SECONDS = 3600.0
"""Longer than any lead time or step pause that looks back at our own moves."""
STARTING_LEAD_TIMES = 2.0
"""A pod that starts counts as capacity for this many lead times; afterwards it is not starting but stuck."""

FAILING_SHARE = 0.5
FAILING_LEAST_ENDED = 20
"""More than half of at least 20 ended attempts failed: more workers would only fail faster."""
FAILING_WINDOW_SECONDS = 120.0

FOREIGN_WRITES = 2
FOREIGN_WRITES_WITHIN_SECONDS = 600.0
FOREIGN_HOLD_SECONDS = 600.0
"""Two foreign writes of `spec.replicas` within 10 minutes of ours are a second controller or Git: hold 10 minutes."""

ALLOCATION_SECONDS = 5.0
"""A pool that wants more than the last allocation waits so long before that is a shortage, unless the guard itself
reports one. A guard makes a pass every second or two, and other pools give workers back within 5 s."""

BACK_WITHIN = 0.8
"""Once late, a queue counts as within its target again below this share of it, so that the verdict does not flap."""
BRIEF_SECONDS = 10.0
"""A pool that could read its queue stays Ready for so long: two probes may fail."""
